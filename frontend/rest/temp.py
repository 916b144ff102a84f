"""`/temp/...`: uploads that take several requests, or wait for a confirmation.

A resumable upload begins with `POST /objects/NAME` (see `objects`) and goes on here under the
handle that answers; a body posted to `/temp/NAME` is whole at once and waits for its PATCH.
The handle is the right to its upload: it cannot be guessed or made up, and it works only as
long as the access key that began the upload may still upload there.
"""

from typing import ClassVar

import msgspec

from frontend.flows.append import append_body
from frontend.flows.finish import finish_upload
from frontend.flows.put import StoredObject
from frontend.flows.resume import continue_upload
from frontend.flows.uploads import (
    abort_in_background,
    abort_upload,
    begin_upload,
    find_upload,
    seal_upload,
)
from frontend.rest.handler import NativeHandler
from frontend.rest.offsets import offset_of
from frontend.serving.cross_origin import CrossOriginHandler
from osscore import paths
from osscore.digest_headers import declared_sha256, hash_of_name
from osscore.errors import (
    AccessDenied,
    BadDigest,
    Conflict,
    ContentMismatch,
    EntityTooLarge,
    InvalidArgument,
    InvalidRange,
    StoreError,
)
from osscore.kept_headers import content_headers, user_metadata
from osscore.times import iso_time
from ossd.json_body import parse_json
from raftmeta.access import UPLOAD, Began
from raftmeta.commands import UploadPlan
from raftmeta.queries import UploadFound

_CONFIRMATION_BYTES_MAX = 4096


class Confirmation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a PATCH may assert of the body it confirms."""

    sha256: str | None = None
    size: int | None = None


class TempHandler(CrossOriginHandler, NativeHandler):
    """`/temp/NAME` for POST, `/temp/HANDLE` for everything else."""

    # Bytes that came before a client left are kept, and what is whole becomes an object.
    outlives_client: ClassVar[bool] = True
    _held_bytes: int | None = None
    # A page may be handed a handle; a POST needs an access key, which no page should have.
    cross_origin_methods: ClassVar[tuple[str, ...]] = ("HEAD", "PUT", "PATCH", "DELETE")

    async def post(self) -> None:
        """Take a whole body for object NAME; it is invisible until its PATCH."""
        key = paths.key(paths.after(self.request.path, "/temp/"))
        bucket = paths.DEFAULT_BUCKET
        grant = await self.allow(UPLOAD, bucket, key)
        headers = self.request.headers
        expected = declared_sha256(headers)
        plan = UploadPlan(
            owner=grant.access_key,
            owner_since_ms=grant.created_at_ms,
            size_bytes=self.declared_bytes,
            profile=self.asked_profile(),
            content=content_headers(headers),
            user=user_metadata(headers.get_all()),
        )
        if (plan.size_bytes or 0) > self.store.settings.object_bytes_max:
            most = self.store.settings.object_bytes_max
            raise EntityTooLarge(f"An object has at most {most} bytes.")
        ttl_s = self.surface.config.temp_expiry_s
        upload = await begin_upload(self.store, bucket, key, plan, ttl_s=ttl_s, creates_bucket=True)
        try:
            found = await self._take_body(upload, expected)
        except BaseException:
            abort_in_background(self.store, upload)
            raise
        handle = await self.surface.handles.seal(upload)
        self.set_header("Location", f"/temp/{handle}")
        self.reply_json(
            {
                "id": handle,
                "sha256": found.plan.sha256.hex(),
                "size": found.staged_bytes,
                "expires_at": iso_time(found.expires_at_ms),
            },
            status=201,
        )

    async def head(self, *_args: str, **_kwargs: str) -> None:
        """How much of the upload is held."""
        found = await self._named()
        self._set_progress(found)
        self.set_header("Content-Length", found.staged_bytes)

    async def put(self) -> None:
        """Add the body at an offset; the bytes that complete the upload make the version."""
        found = await self._named()
        self._held_bytes = found.staged_bytes
        offset = offset_of(
            self.request.headers,
            body_bytes=self.declared_bytes,
            planned_bytes=found.plan.size_bytes,
        )
        outcome = await continue_upload(
            self.store,
            found.upload,
            offset,
            self.body_stream,
            size_bytes=self.declared_bytes,
        )
        if isinstance(outcome, StoredObject):
            self.set_header("Upload-Offset", outcome.size_bytes)
            self.reply_stored(outcome)
            return
        self._set_progress(outcome)
        self.reply_json({"upload_offset": outcome.staged_bytes, "size": outcome.plan.size_bytes})

    async def patch(self) -> None:
        """Confirm a whole body: it becomes a version; again: the same version."""
        found = await self._named()
        self._check_confirmation(found, await self._confirmation())
        stored = await finish_upload(self.store, found)
        self.set_header("X-Version", stored.number)
        self.set_header("X-Version-Id", stored.version_id)
        self.reply_json(
            {
                "name": found.key,
                "version": stored.number,
                "sha256": stored.sha256.hex(),
                "size": stored.size_bytes,
            }
        )

    async def delete(self) -> None:
        """Give the upload up."""
        found = await self._named()
        if found.finished is not None:
            raise Conflict(f"This upload became version {found.finished.number} already.")
        await abort_upload(self.store, found.upload)
        self.set_status(204)

    # --- which upload, and who may --------------------------------------------------------

    async def _named(self) -> UploadFound:
        """Raises AccessDenied (made up, or its key may no longer), NoSuchUpload."""
        handle = paths.after(self.request.path, "/temp/")
        upload = await self.surface.handles.open(handle)
        if self.request.headers.get("Authorization"):
            await self.authenticate()  # who sends credentials wants to know that they are wrong
        await self.store.under_way.settle(upload)
        found = await find_upload(self.store, upload)
        plan = found.plan
        began = Began(plan.owner, plan.owner_since_ms, found.created_at_ms)
        if not await self.surface.access.may_still(began, UPLOAD, found.bucket, found.key):
            raise AccessDenied("The access key that began this upload may no longer.")
        return found

    # --- parts of a request -----------------------------------------------------------------

    async def _take_body(self, upload: bytes, expected: bytes | None) -> UploadFound:
        found = await find_upload(self.store, upload)
        appended = await append_body(
            self.store, found, self.body_stream, size_bytes=self.declared_bytes
        )
        assert appended.sha256 is not None, "the body came in one request"
        if expected is not None and expected != appended.sha256:
            raise BadDigest(
                f"The body has SHA-256 {appended.sha256.hex()},"
                f" the request declares {expected.hex()}."
            )
        found = await find_upload(self.store, upload)
        ttl_s = self.surface.config.temp_expiry_s
        await seal_upload(self.store, found, appended.sha256, ttl_s=ttl_s)
        return await find_upload(self.store, upload)

    async def _confirmation(self) -> Confirmation:
        body = bytearray()
        async for piece in self.body_stream:
            body += piece
            if len(body) > _CONFIRMATION_BYTES_MAX:
                raise EntityTooLarge("A confirmation is a short JSON object.")
        what = "A confirmation is JSON with sha256 and size"
        return parse_json(bytes(body).strip() or b"{}", Confirmation, what)

    def _check_confirmation(self, found: UploadFound, asserted: Confirmation) -> None:
        """Raises ContentMismatch, Conflict (not whole yet), InvalidArgument."""
        size_bytes, planned = found.staged_bytes, found.plan.size_bytes
        if found.finished is None and not found.sealed and size_bytes != planned:
            raise Conflict(f"The upload holds {size_bytes} of {planned} bytes.")
        if asserted.size is not None and asserted.size != size_bytes:
            raise ContentMismatch(f"The body has {size_bytes} bytes, not {asserted.size}.")
        if asserted.sha256 is None:
            return
        wanted = hash_of_name(asserted.sha256)
        if wanted is None:
            raise InvalidArgument("sha256 is written in hex or base64.")
        if wanted != found.plan.sha256:
            raise ContentMismatch(f"The body has SHA-256 {found.plan.sha256.hex()}.")

    # --- answers ------------------------------------------------------------------------------

    def _set_progress(self, found: UploadFound) -> None:
        self.set_header("Cache-Control", "no-store")
        self.set_header("Upload-Offset", found.staged_bytes)
        if found.plan.size_bytes is not None:
            self.set_header("Upload-Length", found.plan.size_bytes)
        self.set_header("Upload-Complete", "?1" if found.finished is not None else "?0")

    def _set_fact_headers(self, error: StoreError) -> None:
        super()._set_fact_headers(error)
        if isinstance(error, InvalidRange):
            self.set_header("Upload-Offset", error.size_bytes)
        elif isinstance(error, EntityTooLarge) and self._held_bytes is not None:
            self.set_header("Upload-Offset", self._held_bytes)
