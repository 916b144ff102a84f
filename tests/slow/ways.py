"""The ways in and out of the store: which requests one upload or download is made of.

Each way has one request that carries the body; that one is slow. What is asked before it and
after it goes at full speed.
"""

import base64
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import aiohttp

_BOUNDARY = "slow-clients-boundary"
_FORM_HEAD = (
    f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="slow.bin"\r\n\r\n'
).encode()
_FORM_TAIL = f"\r\n--{_BOUNDARY}--\r\n".encode()


class WayFailed(Exception):
    """A request beside the slow one was refused."""


@dataclass(frozen=True, slots=True)
class Server:
    """One frontend and one blob daemon, and a session with an access key."""

    session: aiohttp.ClientSession
    api: str
    blob: str

    async def ask(
        self, method: str, url: str, *, expected: tuple[int, ...] = (200, 201), **more: Any
    ) -> Any:
        """The JSON of a request that succeeds. Raises WayFailed."""
        async with self.session.request(method, url, **more) as answer:
            if answer.status not in expected:
                raise WayFailed(f"{method} {url}: {answer.status} {(await answer.text())[:300]}")
            is_json = answer.content_type == "application/json"
            return await answer.json() if is_json else None


@dataclass(frozen=True, slots=True)
class Sending:
    """The request that carries a body: `before` and `after` are sent around it. `answers`: the
    status that is its success; `finish`: what makes it an object then."""

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    before: bytes = b""
    after: bytes = b""
    answers: int = 200
    finish: Callable[[Any], Awaitable[Any]] | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """How a body is sent, and how it is taken: the URL and headers of a GET."""

    name: str
    send: Callable[[Server, str, bytes], Awaitable[Sending]]
    take: Callable[[Server, str, bytes], Awaitable[tuple[str, dict[str, str]]]]


# --- the native API -----------------------------------------------------------------------------


def _object(server: Server, name: str) -> str:
    return f"{server.api}/objects/slow/{quote(name)}"


async def _put(server: Server, name: str, _body: bytes) -> Sending:
    return Sending("PUT", _object(server, name))


async def _resumable(server: Server, name: str, body: bytes) -> Sending:
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    headers = {"Digest": f"SHA-256={digest}", "Size": str(len(body))}
    begun = await server.ask("POST", _object(server, name), headers=headers)
    return Sending("PUT", f"{server.api}/temp/{begun['token']}", {"Upload-Offset": "0"})


async def _held_by_frontend(server: Server, name: str, _body: bytes) -> Sending:
    return _held(server, server.api, name)


async def _held_by_daemon(server: Server, name: str, _body: bytes) -> Sending:
    return _held(server, server.blob, name)


def _held(server: Server, where: str, name: str) -> Sending:
    async def confirm(posted: Any) -> Any:
        return await server.ask("PATCH", f"{where}/temp/{posted['id']}")

    return Sending("POST", f"{where}/temp/slow/{quote(name)}", answers=201, finish=confirm)


async def _get(server: Server, name: str, _body: bytes) -> tuple[str, dict[str, str]]:
    return _object(server, name), {}


async def _share(server: Server, name: str, _body: bytes) -> tuple[str, dict[str, str]]:
    wish = {"bucket": "objects", "key": f"slow/{name}", "expires_s": 3600}
    made = await server.ask("POST", f"{server.api}/v1/shares", json=wish)
    return made["url"], {}


# --- the token API --------------------------------------------------------------------------------


async def _token(server: Server, kind: str, body: bytes) -> dict[str, str]:
    url = f"{server.api}/{kind}/token?hash={hashlib.sha256(body).hexdigest()}"
    minted = await server.ask("GET", url)
    return {"token": minted["data"]["token"]}


async def _single(server: Server, _name: str, body: bytes) -> Sending:
    headers = await _token(server, "upload", body) | _form()
    url = f"{server.api}/upload/single"
    return Sending("POST", url, headers, before=_FORM_HEAD, after=_FORM_TAIL)


async def _chunk(server: Server, name: str, body: bytes) -> Sending:
    token = await _token(server, "upload", body)

    async def finish(_answer: Any) -> Any:
        url = f"{server.api}/upload/finish?file_name={quote(name)}"
        return await server.ask("POST", url, headers=token)

    return Sending(
        "POST",
        f"{server.api}/upload/chuck?chuck=0",
        token | _form(),
        before=_FORM_HEAD,
        after=_FORM_TAIL,
        finish=finish,
    )


async def _download(server: Server, _name: str, body: bytes) -> tuple[str, dict[str, str]]:
    return f"{server.api}/download", await _token(server, "download", body)


def _form() -> dict[str, str]:
    return {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}


NATIVE = Way("native", _put, _get)
WAYS = (
    NATIVE,
    Way("resumable", _resumable, _share),
    Way("held by a frontend", _held_by_frontend, _get),
    Way("held by a blob daemon", _held_by_daemon, _get),
    Way("token, one piece", _single, _download),
    Way("token, chunks", _chunk, _download),
)
