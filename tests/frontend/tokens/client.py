"""A client of the token API: the back end that holds the system token, and its browsers."""

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.frontend.rest.serving import Answer, Api
from tests.frontend.rest.serving import run as run_api

SYSTEM = "the-system-token-of-these-tests"
BOUNDARY = "a-boundary-of-tests"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


def hash_of(body: bytes) -> str:
    """What a file is known by."""
    return hashlib.sha256(body).hexdigest()


def form_of(body: bytes, name: str | None = "f.bin", *, part: str = "file") -> bytes:
    """A body of multipart/form-data with one part."""
    named = f'; filename="{name}"' if name is not None else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{part}"{named}\r\n\r\n'
    return head.encode() + body + f"\r\n--{BOUNDARY}--\r\n".encode()


class TokenApi:
    """One frontend, reached without an access key."""

    def __init__(self, api: Api) -> None:
        self.api = api

    async def __call__(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        system: str | None = None,
        **more: Any,
    ) -> Answer:
        """One request with these tokens in its headers."""
        headers = dict(more.pop("headers", {}))
        if token is not None:
            headers["token"] = token
        if system is not None:
            headers["systemToken"] = system
        auth = more.pop("auth", None)
        return await self.api(method, path, auth=auth, headers=headers, **more)

    async def data(self, method: str, path: str, **more: Any) -> Any:
        """The data of a request that succeeds, its envelope checked."""
        answer = await self(method, path, **more)
        assert answer.status == 200, answer
        data = answer.json["data"]
        assert answer.json == {"status": True, "code": 200, "msg": "", "data": data}
        return data

    async def refused(self, status: int, code: int, method: str, path: str, **more: Any) -> Answer:
        """A request that fails so, its envelope checked."""
        answer = await self(method, path, **more)
        assert (answer.status, answer.json["code"]) == (status, code), answer
        message = answer.json["msg"]
        assert answer.json == {"status": False, "code": code, "msg": message, "data": None}
        assert message and "Traceback" not in message
        return answer

    async def token(self, kind: str, body: bytes | str, **arguments: object) -> str:
        """A token of kind `upload` or `download` for a content or its hash."""
        wanted = body if isinstance(body, str) else hash_of(body)
        query = "".join(f"&{name}={value}" for name, value in arguments.items())
        path = f"/{kind}/token?hash={wanted}{query}"
        return str((await self.data("GET", path, system=SYSTEM))["token"])

    async def single(self, body: bytes, name: str = "f.bin", token: str = "") -> Answer:
        """Upload in one piece."""
        token = token or await self.token("upload", body)
        return await self.post_form("/upload/single", form_of(body, name), token=token)

    async def chunk(
        self, token: str, number: object, body: bytes, *, word: str = "chuck", more: str = ""
    ) -> Answer:
        """Upload one chunk."""
        path = f"/upload/{word}?{word}={quote(str(number))}{more}"
        return await self.post_form(path, form_of(body), token=token)

    async def finish(self, token: str, name: str = "f.bin", **more: Any) -> Answer:
        """Put the chunks together."""
        path = f"/upload/finish?file_name={quote(name)}"
        return await self("GET", path, token=token, system=more.pop("system", SYSTEM), **more)

    async def post_form(self, path: str, form: bytes, **more: Any) -> Answer:
        """A form, as a browser sends one."""
        headers = {"Content-Type": FORM, **more.pop("headers", {})}
        return await self("POST", path, data=form, headers=headers, **more)

    async def download(self, body: bytes | str, **headers: str) -> Answer:
        """Download by content or hash."""
        return await self(
            "GET", "/download", token=await self.token("download", body), headers=headers
        )


def run(
    folder: Path, story: Callable[[TokenApi], Awaitable[None]], *, nodes: int = 6, **config: Any
) -> None:
    """Let `story` happen against a fresh frontend whose system token is SYSTEM."""

    async def told(api: Api) -> None:
        changed = await api("PUT", "/server/token", json={"token": SYSTEM})
        assert changed.status == 200, changed
        await story(TokenApi(api))

    run_api(folder, told, nodes=nodes, **config)
