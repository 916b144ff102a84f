"""HTTP to a frontend: one session, credentials, errors as the store's own."""

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from cli.connection import Connection, connect
from osscore.errors import (
    MethodNotAllowed,
    OutcomeUnknown,
    PeerUnreachable,
    StoreError,
    Unavailable,
    from_code,
)

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")
CONNECT_S = 5.0
SILENCE_S = 120.0
"""Longest wait for the next bytes of an answer."""
READS = ("GET", "HEAD")
UNKNOWN = "whether it was done is not known: look, then try again"
WHAT_TO_DO = {
    "NoLeader": "'ossctl cluster status' shows what does not run",
    "OutcomeUnknown": UNKNOWN,
}
"""By the code of an error: a frontend tells what is, not what to do about it."""


class Api:
    """Requests to whichever of the given frontends answers."""

    def __init__(self, session: "aiohttp.ClientSession", endpoints: tuple[str, ...]) -> None:
        self._session = session
        self._endpoints = endpoints

    @asynccontextmanager
    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Callable[[], AsyncIterator[bytes]] | bytes | None = None,
    ) -> AsyncIterator["aiohttp.ClientResponse"]:
        """Send one request; the answer's body is the caller's to read.

        `path` is percent-encoded already. A streamed `body` is a function that starts it,
        so that it can be sent to another frontend when the first cannot be reached.
        Raises the StoreError the answer names, PeerUnreachable, or OutcomeUnknown when the
        answer to a change did not come.
        """
        response = await self._first_answer(method, path, query or {}, headers or {}, body)
        try:
            if response.status >= 400 and method == "HEAD":
                await self._raise_as_get(path, query, headers)
            if response.status >= 400:
                raise await _error(response)
            yield response
        finally:
            response.release()

    async def _raise_as_get(
        self, path: str, query: Mapping[str, str] | None, headers: Mapping[str, str] | None
    ) -> None:
        # The answer to HEAD has no body, so only the status: GET also says what is missing.
        try:
            async with self.request("GET", path, query=query, headers=headers):
                pass  # it is there by now: the caller raises what HEAD said
        except MethodNotAllowed:
            pass  # it has no GET: the status must do

    async def json(self, method: str, path: str, **options: Any) -> Any:
        """The JSON of an answer, None when it has no body. Raises as `request` does, and
        StoreError where something else than this store's API answers."""
        async with self.request(method, path, **options) as response:
            text = await _text(response)
            try:
                return json.loads(text) if text else None
            except ValueError as error:
                raise _foreign(response) from error

    async def _first_answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: Callable[[], AsyncIterator[bytes]] | bytes | None,
    ) -> "aiohttp.ClientResponse":
        import aiohttp
        from yarl import URL

        why = ""
        for endpoint in self._endpoints:
            text = f"{endpoint}{path}"
            if query:
                text += "?" + "&".join(f"{quote(k)}={quote(v, safe='')}" for k, v in query.items())
            try:
                return await self._session.request(
                    method,
                    URL(text, encoded=True),
                    headers=headers,
                    data=body() if callable(body) else body,
                    # A refusal comes before the body: one that comes while we still send
                    # may be lost with the connection.
                    expect100=callable(body),
                    allow_redirects=False,
                )
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
                why = _why_not_connected(error)  # the next frontend may have it
            except (aiohttp.ClientError, TimeoutError) as error:
                raise broken_off(method, endpoint, error) from error
        raise PeerUnreachable(
            f"no frontend answers at {', '.join(self._endpoints)} ({why}); is the cluster "
            "running? ('ossctl up' starts a local one)"
        )


def object_path(bucket: str, key: str) -> str:
    """The path of an object; every byte that could mean something else is encoded."""
    return f"/buckets/{quote(bucket, safe='')}/objects/{quote(key, safe='/')}"


def authorization(connection: Connection) -> dict[str, str]:
    """The header that proves who asks (Basic)."""
    pair = f"{connection.access_key}:{connection.secret_key}".encode()
    return {"Authorization": "Basic " + base64.b64encode(pair).decode()}


def run(connection: Connection, work: Callable[[Api], Awaitable[T]]) -> T:
    """Run `work` with an Api, from a synchronous command."""

    async def main() -> T:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
        async with aiohttp.ClientSession(
            timeout=timeout,
            auto_decompress=False,
            headers={"Accept-Encoding": "identity", **authorization(connection)},
            read_bufsize=1 << 20,
        ) as session:
            return await work(Api(session, connection.endpoints))

    return asyncio.run(main())


def call(
    directory: Path | None,
    endpoint: str | None,
    method: str,
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    send: object = None,
) -> Any:
    """One request of a command, with `send` as its JSON body; the JSON of the answer.

    Raises as `Api.json` does, and UsageError where there is no cluster to speak to.
    """
    connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
    body = None if send is None else json.dumps(send).encode()
    return run(connection, lambda api: api.json(method, path, query=query, body=body))


def broken_off(method: str, endpoint: str, error: Exception) -> Unavailable:
    """What a connection that ended too soon means for who sent `method`."""
    what = f"the connection to {endpoint} broke off ({error or type(error).__name__})"
    if method in READS:
        return PeerUnreachable(f"{what}; try again")
    return OutcomeUnknown(f"{what}; {UNKNOWN}")


def _why_not_connected(error: Exception) -> str:
    """A few words: aiohttp's own sentence repeats the address."""
    cause = getattr(error, "os_error", None)
    certificate = getattr(error, "certificate_error", None)
    if certificate is not None:
        return str(certificate)
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return os.strerror(cause.errno).lower()
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_S:.0f} s"
    return str(cause.strerror if cause is not None and cause.strerror else cause or error)


def _endpoint(response: "aiohttp.ClientResponse") -> str:
    return str(response.url.origin())


def _foreign(response: "aiohttp.ClientResponse") -> StoreError:
    return StoreError(
        f"{_endpoint(response)} answers {response.status}, but not as a frontend of this store; "
        "is the endpoint right?"
    )


async def _text(response: "aiohttp.ClientResponse") -> str:
    """A small body as text. Raises Unavailable when it breaks off."""
    import aiohttp

    try:
        return await response.text(errors="replace")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise broken_off(response.method, _endpoint(response), error) from error


async def _error(response: "aiohttp.ClientResponse") -> StoreError:
    text = await _text(response)
    try:
        found = json.loads(text)["error"]
        code, message = found["code"], found["message"]
        if code in WHAT_TO_DO:
            message = f"{message.rstrip('.')}; {WHAT_TO_DO[code]}"
        return from_code(code, message)
    except (ValueError, KeyError, TypeError, AttributeError):
        # Not from a frontend, whose errors are JSON; a proxy before it may say these.
        kind = {401: "Unauthenticated", 403: "AccessDenied", 503: "Unavailable"}
        kind |= {502: "Unavailable", 504: "Unavailable"}
        if response.method == "HEAD":
            kind |= {404: "NotFound"}
        if response.status not in kind:
            return _foreign(response)
        message = f"{_endpoint(response)} answered {response.status} {response.reason}"
        return from_code(kind[response.status], message)
