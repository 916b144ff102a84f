"""PUT, GET, HEAD, DELETE and undelete of one object."""

from contextlib import aclosing

from frontend.access import DELETE, DOWNLOAD, UPLOAD
from frontend.flows.get import read_object
from frontend.flows.objects import ObjectRef, delete_object, find_object, undelete_object
from frontend.flows.put import PutRequest, put_object
from frontend.rest import paths, query
from frontend.rest.digests import declared_sha256
from frontend.rest.encoding import GzipStream, accepts_gzip, gzip_whole
from frontend.rest.etags import (
    GZIP_SUFFIX,
    Outcome,
    evaluate,
    http_date,
    range_applies,
    write_conditions,
)
from frontend.rest.handler import NativeHandler
from frontend.rest.headers import content_headers, kept_headers, user_metadata
from frontend.rest.ranges import ByteRange, parse_range
from osscore.errors import (
    InvalidArgument,
    InvalidRange,
    MethodNotAllowed,
    NoSuchKey,
    PreconditionFailed,
)
from osscore.model import Profile
from raftmeta.queries import Found

PROFILE_HEADER = "X-Oss-Profile"
_PLAIN_METHODS = ("GET", "HEAD", "PUT", "DELETE", "OPTIONS")


class ObjectHandler(NativeHandler):
    """`/objects/KEY` and `/buckets/BUCKET/objects/KEY`."""

    async def put(self) -> None:
        """Store the body as a new version."""
        bucket, key = self._name()
        await self.allow(UPLOAD, bucket)
        headers = self.request.headers
        # In a query string a bare '+' reads as a space.
        asked = query.text(self.arguments, "profile").strip().replace(" ", "+")
        profile = headers.get(PROFILE_HEADER) or asked
        request = PutRequest(
            bucket=bucket,
            key=key,
            size_bytes=self.declared_bytes,
            profile=Profile.parse(profile) if profile else None,
            content=content_headers(headers),
            user=user_metadata(headers.get_all()),
            sha256=declared_sha256(headers),
            conditions=write_conditions(headers),
            creates_bucket=bucket == paths.DEFAULT_BUCKET,
        )
        stored = await put_object(self.store, request, self.body_stream)
        sha256 = stored.sha256.hex()
        self.set_header("Etag", f'"{sha256}"')
        self.set_header("X-Version", stored.number)
        self.set_header("X-Version-Id", stored.version_id)
        self.set_header("Last-Modified", http_date(stored.created_at_ms))
        self.reply_json(
            {
                "version": stored.number,
                "version_id": stored.version_id,
                "size": stored.size_bytes,
                "sha256": sha256,
                "etag": sha256,
            }
        )

    async def get(self) -> None:
        """The bytes, or a range of them; HEAD: the same headers."""
        ref = self._ref()
        await self.allow(DOWNLOAD, ref.bucket)
        wanted = parse_range(self.request.headers.get("Range"))
        first = wanted.first if wanted is not None and wanted.first is not None else 0
        found = await find_object(self.store, ref, first=first)
        if found.version.is_marker:
            self._refuse_marker(found)
        if not self._passes_conditions(found):
            return
        if wanted is not None and self._range_applies(found):
            await self._send_range(found, wanted)
        elif self._may_gzip(found) and wanted is None:
            await self._send_gzip(found)
        else:
            await self._send_whole(found)

    async def delete(self) -> None:
        """Hide the object behind a marker, or remove the version named for good."""
        ref = self._ref()
        await self.allow(DELETE, ref.bucket)
        deleted = await delete_object(self.store, ref, write_conditions(self.request.headers))
        self.set_header("X-Version", deleted.number)
        self.set_header("X-Version-Id", deleted.version_id)
        if deleted.is_marker:
            self.set_header("X-Delete-Marker", "true")
        self.set_status(204)

    async def post(self) -> None:
        """`?undelete=1`: bring back the version under the delete markers."""
        if not query.flag(self.arguments, "undelete"):
            raise MethodNotAllowed(allow=_PLAIN_METHODS)
        ref = self._ref()
        await self.allow(UPLOAD, ref.bucket)
        revealed = await undelete_object(self.store, ref)
        self.set_header("X-Version", revealed.number)
        self.set_header("X-Version-Id", revealed.version_id)
        self.reply_json({"version": revealed.number, "version_id": revealed.version_id})

    # --- what is asked for -------------------------------------------------------------

    def _name(self) -> tuple[str, str]:
        return paths.object_of(self.request.path)

    def _ref(self) -> ObjectRef:
        bucket, key = self._name()
        number = query.number(self.arguments, "version")
        version_id = query.text(self.arguments, "version_id")
        if number is not None and version_id:
            raise InvalidArgument("version and version_id do not go together.")
        return ObjectRef(bucket=bucket, key=key, number=number, version_id=version_id)

    def _refuse_marker(self, found: Found) -> None:
        raise NoSuchKey(f"Version {found.version.number} is a delete marker.")

    # --- conditions and ranges ----------------------------------------------------------

    def _passes_conditions(self, found: Found) -> bool:
        """False: answered with 304. Sets the headers that every answer has."""
        version = found.version
        outcome = evaluate(
            self.request.headers, etag=version.etag, modified_ms=version.created_at_ms
        )
        if outcome is Outcome.FAILED:
            raise PreconditionFailed()
        for name, value in kept_headers(version.attributes).items():
            self.set_header(name, value)
        self.set_version_headers(version)
        self.set_header("Etag", f'"{version.etag}"')
        self.set_header("Last-Modified", http_date(version.created_at_ms))
        self.set_header("Accept-Ranges", "bytes")
        self.set_header("Vary", "Accept-Encoding")
        if outcome is Outcome.NOT_MODIFIED:
            self.set_status(304)
            return False
        return True

    def _range_applies(self, found: Found) -> bool:
        version = found.version
        return range_applies(
            self.request.headers.get("If-Range"),
            etag=version.etag,
            modified_ms=version.created_at_ms,
        )

    # --- answers -------------------------------------------------------------------------

    async def _send_range(self, found: Found, wanted: ByteRange) -> None:
        size_bytes = found.version.attributes.size_bytes
        try:
            first, last = wanted.resolve(size_bytes)
        except InvalidRange:
            self.clear()  # the object's headers do not describe this answer
            raise
        self.set_status(206)
        self.set_header("Content-Range", f"bytes {first}-{last}/{size_bytes}")
        await self._send_bytes(found, first, last)

    async def _send_whole(self, found: Found) -> None:
        await self._send_bytes(found, 0, found.version.attributes.size_bytes - 1)

    async def _send_bytes(self, found: Found, first: int, last: int) -> None:
        self.set_header("Content-Length", last - first + 1)
        if self.request.method == "HEAD" or last < first:
            return
        if found.inline is not None:
            self.write(found.inline[first : last + 1])
            return
        async with aclosing(read_object(self.store, found, first, last)) as pieces:
            async for piece in pieces:
                await self.send(piece)

    def _may_gzip(self, found: Found) -> bool:
        """Whether the client asks for gzip and it would help.

        What the store itself could not compress is not worth trying again.
        """
        attributes = found.version.attributes
        if "content-encoding" in attributes.content or not attributes.size_bytes:
            return False
        if not accepts_gzip(self.request.headers.get("Accept-Encoding")):
            return False
        return found.inline is not None or bool(found.segments and found.segments[0].stripe.frames)

    async def _send_gzip(self, found: Found) -> None:
        if found.inline is not None:
            encoded = gzip_whole(found.inline)
            if encoded is None:
                await self._send_whole(found)
                return
            self._set_gzip_headers(found)
            self.set_header("Content-Length", len(encoded))
            if self.request.method != "HEAD":
                self.write(encoded)
            return
        self._set_gzip_headers(found)
        if self.request.method != "HEAD":
            await self._stream_gzip(found)

    def _set_gzip_headers(self, found: Found) -> None:
        self.set_header("Content-Encoding", "gzip")
        self.set_header("Etag", f'"{found.version.etag}{GZIP_SUFFIX}"')
        self.set_header("Accept-Ranges", "none")

    async def _stream_gzip(self, found: Found) -> None:
        stream = GzipStream()
        last = found.version.attributes.size_bytes - 1
        async with aclosing(read_object(self.store, found, 0, last)) as pieces:
            async for piece in pieces:
                await self.send(await self.store.off_loop(len(piece), stream.piece, piece))
        await self.send(stream.end())
