"""An object as the answer to a GET or HEAD: conditions, one byte range, gzip."""

from collections.abc import Iterable, Mapping
from contextlib import aclosing

from frontend.flows.get import read_object
from frontend.flows.store import Store
from frontend.serving.encoding import GzipStream, accepts_gzip, gzip_whole
from frontend.serving.etags import GZIP_SUFFIX, Outcome, evaluate, http_date, range_applies
from frontend.serving.ranges import parse_range
from osscore.errors import PreconditionFailed
from ossd.answering import AnsweringHandler
from raftmeta.queries import Found


class ObjectAnswer:
    """The answer of one request. Ask `first` before looking the object up, then `send` it.

    `gzips`: whether bytes worth it are encoded for clients that accept it.
    """

    def __init__(self, handler: AnsweringHandler, store: Store, *, gzips: bool = True) -> None:
        self._handler = handler
        self._store = store
        self._gzips = gzips
        self._asked: Mapping[str, str] = handler.request.headers
        self._wanted = parse_range(self._asked.get("Range"))

    @property
    def first(self) -> int:
        """Where the wanted bytes begin, as far as the request alone tells."""
        return (self._wanted.first or 0) if self._wanted is not None else 0

    async def send(self, found: Found, headers: Iterable[tuple[str, str]]) -> None:
        """Answer with what was found, which is no marker, and `headers` of the dialect's own.

        Raises PreconditionFailed, InvalidRange, and as read_object does.
        """
        outcome = self._outcome(found)
        if outcome is Outcome.FAILED:
            raise PreconditionFailed()
        self._set_headers(found, headers)
        if outcome is Outcome.NOT_MODIFIED:
            self._handler.set_status(304)
        elif self._wanted is not None and self._range_applies(found):
            await self._send_range(found, *self._wanted.resolve(_size_bytes(found)))
        elif self._wanted is None and self._may_gzip(found):
            await self._send_gzip(found)
        else:
            await self._send_bytes(found, 0, _size_bytes(found) - 1)

    # --- conditions --------------------------------------------------------------------------

    def _outcome(self, found: Found) -> Outcome:
        version = found.version
        return evaluate(self._asked, etag=version.etag, modified_ms=version.created_at_ms)

    def _range_applies(self, found: Found) -> bool:
        version = found.version
        return range_applies(
            self._asked.get("If-Range"), etag=version.etag, modified_ms=version.created_at_ms
        )

    def _may_gzip(self, found: Found) -> bool:
        """Whether the client asks for gzip and it would help.

        What the store itself could not compress is not worth trying again.
        """
        attributes = found.version.attributes
        if not self._gzips or "content-encoding" in attributes.content or not attributes.size_bytes:
            return False
        if not accepts_gzip(self._asked.get("Accept-Encoding")):
            return False
        return found.inline is not None or bool(found.segments and found.segments[0].stripe.frames)

    # --- headers and bytes -------------------------------------------------------------------

    def _set_headers(self, found: Found, headers: Iterable[tuple[str, str]]) -> None:
        version, handler = found.version, self._handler
        for name, value in headers:
            handler.set_header(name, value)
        handler.set_header("Etag", f'"{version.etag}"')
        handler.set_header("Last-Modified", http_date(version.created_at_ms))
        handler.set_header("Accept-Ranges", "bytes")
        if self._gzips:
            handler.add_header("Vary", "Accept-Encoding")

    async def _send_range(self, found: Found, first: int, last: int) -> None:
        self._handler.set_status(206)
        self._handler.set_header("Content-Range", f"bytes {first}-{last}/{_size_bytes(found)}")
        await self._send_bytes(found, first, last)

    async def _send_bytes(self, found: Found, first: int, last: int) -> None:
        self._handler.set_header("Content-Length", last - first + 1)
        if self._is_head() or last < first:
            return
        if found.inline is not None:
            self._handler.write(found.inline[first : last + 1])
            return
        async with aclosing(read_object(self._store, found, first, last)) as pieces:
            async for piece in pieces:
                await self._handler.send(piece)

    async def _send_gzip(self, found: Found) -> None:
        if found.inline is not None:
            await self._send_gzip_whole(found, found.inline)
            return
        self._set_gzip_headers(found)
        if self._is_head():
            return
        stream, last = GzipStream(), _size_bytes(found) - 1
        async with aclosing(read_object(self._store, found, 0, last)) as pieces:
            async for piece in pieces:
                encoded = await self._store.off_loop(len(piece), stream.piece, piece)
                await self._handler.send(encoded)
        await self._handler.send(stream.end())

    async def _send_gzip_whole(self, found: Found, plain: bytes) -> None:
        encoded = gzip_whole(plain)
        if encoded is None:
            await self._send_bytes(found, 0, len(plain) - 1)
            return
        self._set_gzip_headers(found)
        self._handler.set_header("Content-Length", len(encoded))
        if not self._is_head():
            self._handler.write(encoded)

    def _set_gzip_headers(self, found: Found) -> None:
        self._handler.set_header("Content-Encoding", "gzip")
        self._handler.set_header("Etag", f'"{found.version.etag}{GZIP_SUFFIX}"')
        self._handler.set_header("Accept-Ranges", "none")

    def _is_head(self) -> bool:
        return self._handler.request.method == "HEAD"


def _size_bytes(found: Found) -> int:
    return found.version.attributes.size_bytes
