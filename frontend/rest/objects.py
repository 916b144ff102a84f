"""PUT, GET, HEAD, DELETE and undelete of one object."""

import logging
from collections.abc import Iterator, Mapping

from frontend.flows.objects import ObjectRef, delete_object, find_object, undelete_object
from frontend.flows.put import PutRequest, StoredObject, put_object
from frontend.flows.resume import begin_or_copy
from frontend.permits import Permit
from frontend.rest.handler import NativeHandler
from frontend.serving import query
from frontend.serving.etags import write_conditions
from frontend.serving.sending import ObjectAnswer
from osscore import paths
from osscore.digest_headers import declared_sha256
from osscore.errors import InvalidArgument, NoSuchKey
from osscore.kept_headers import content_headers, kept_headers, user_metadata
from osscore.model import VersionInfo
from raftmeta.access import DELETE, DOWNLOAD, UPLOAD, Grant
from raftmeta.commands import ObjectDeleted, UploadPlan

_SIZE_HEADERS = ("Size", "Upload-Length")
_OF_UPLOADS = (*_SIZE_HEADERS, "Digest", "Content-Digest", "Repr-Digest")
UNASKED_BYTES_MAX = 1024 * 1024
"""So large a body is taken in before the catalog has said that its key still works."""
log = logging.getLogger(__name__)
_SIZE_DIGITS_MAX = 18


class ObjectHandler(NativeHandler):
    """`/objects/KEY` and `/buckets/BUCKET/objects/KEY`."""

    async def put(self) -> None:
        """Store the body as a new version."""
        bucket, key = self._name()
        size_bytes = self.declared_bytes
        # Whoever may not must not send much first.
        is_large = size_bytes is None or size_bytes > UNASKED_BYTES_MAX
        permit = await self.permit(UPLOAD, bucket, key, asks=is_large)
        self.reply_stored(await permit.judge(self._put(permit, bucket, key)))

    async def _put(self, permit: Permit, bucket: str, key: str) -> StoredObject:
        headers = self.request.headers
        request = PutRequest(
            bucket=bucket,
            key=key,
            size_bytes=self.declared_bytes,
            profile=self.asked_profile(),
            content=content_headers(headers),
            user=user_metadata(headers.get_all()),
            sha256=declared_sha256(headers),
            conditions=write_conditions(headers),
            creates_bucket=bucket == paths.DEFAULT_BUCKET,
            proposer=permit,
        )
        return await put_object(self.store, request, self.body_stream)

    async def get(self) -> None:
        """The bytes, or a range of them; HEAD: the same headers."""
        ref = self._ref(is_read=True)
        answer = ObjectAnswer(self, self.store)
        looking = find_object(self.store, ref, first=answer.first)
        found = await self.allow_beside(looking, DOWNLOAD, ref.bucket, ref.key)
        if found.version.is_marker:
            raise NoSuchKey(f"Version {found.version.number} is a delete marker.")
        await answer.send(found, version_headers(found.version))

    async def delete(self) -> None:
        """Hide the object behind a marker, or remove the version named for good."""
        ref = self._ref()
        permit = await self.permit(DELETE, ref.bucket, ref.key, asks=False)
        deleted = await permit.judge(self._delete(permit, ref))
        if ref.names_version:  # no row of the audit: docs/adr/0014-what-the-audit-records.md
            log.info("version_removed", extra=_removed(permit.grant, ref, deleted))
        self.set_header("X-Version", deleted.number)
        self.set_header("X-Version-Id", deleted.version_id)
        if deleted.is_marker:
            self.set_header("X-Delete-Marker", "true")
        self.set_status(204)

    async def _delete(self, permit: Permit, ref: ObjectRef) -> ObjectDeleted:
        return await delete_object(permit, ref, write_conditions(self.request.headers))

    async def post(self) -> None:
        """Begin a resumable upload; `?undelete=1`: bring back the version under the markers."""
        if query.flag(self.arguments, "undelete"):
            await self._undelete()
        else:
            await self._begin_upload()

    async def _begin_upload(self) -> None:
        """`Digest` and `Size` say what will come. Content known here is not asked for again."""
        bucket, key = self._name()
        grant = await self.allow(UPLOAD, bucket, key)
        headers = self.request.headers
        sha256 = declared_sha256(headers)
        if sha256 is None:
            raise InvalidArgument("A resumable upload needs Digest: SHA-256=<base64>.")
        plan = UploadPlan(
            owner=grant.access_key,
            owner_since_ms=grant.created_at_ms,
            size_bytes=_declared_size(headers),
            sha256=sha256,
            profile=self.asked_profile(),
            content=content_headers(headers),
            user=user_metadata(headers.get_all()),
        )
        ttl_s = self.surface.config.upload_expiry_s
        begun = await begin_or_copy(
            self.store,
            bucket,
            key,
            plan,
            write_conditions(headers),
            ttl_s=ttl_s,
            creates_bucket=bucket == paths.DEFAULT_BUCKET,
            may_read=lambda known: grant.may(DOWNLOAD, bucket, known),
        )
        if isinstance(begun, StoredObject):
            self.reply_stored(begun)
            return
        handle = await self.surface.handles.seal(begun)
        self.set_header("Location", f"/temp/{handle}")
        self.set_header("Upload-Offset", 0)
        answer = {"token": handle, "upload_offset": 0, "size": plan.size_bytes}
        self.reply_json(answer, status=201)

    async def _undelete(self) -> None:
        ref = self._ref()
        permit = await self.permit(UPLOAD, ref.bucket, ref.key, asks=True)
        if ref.number is not None or ref.version_id:
            raise InvalidArgument("undelete reveals the version under the markers: name none.")
        if any(name in self.request.headers for name in _OF_UPLOADS):
            raise InvalidArgument("undelete begins no upload: it takes no Digest and no Size.")
        revealed = await undelete_object(self.store, permit, ref)
        self.set_header("X-Version", revealed.number)
        self.set_header("X-Version-Id", revealed.version_id)
        self.reply_json(
            {
                "version": revealed.number,
                "version_id": revealed.version_id,
                "was_deleted": revealed.was_deleted,
            }
        )

    # --- what is asked for -------------------------------------------------------------

    def _name(self) -> tuple[str, str]:
        return paths.object_of(self.request.path)

    def _ref(self, *, is_read: bool = False) -> ObjectRef:
        bucket, key = self._name()
        at_ms = self.asked_moment("at")
        number = query.number(self.arguments, "version")
        version_id = query.text(self.arguments, "version_id")
        if "version_id" in self.arguments and not version_id:
            # Else a script whose variable is empty would hide the object instead.
            raise InvalidArgument("version_id is empty.")
        if number is not None and version_id:
            raise InvalidArgument("version and version_id do not go together.")
        if at_ms and not is_read:
            raise InvalidArgument("The past can only be read: name no time (at).")
        if at_ms and (number is not None or version_id):
            raise InvalidArgument("at and a version do not go together.")
        return ObjectRef(bucket=bucket, key=key, number=number, version_id=version_id, at_ms=at_ms)


def _removed(grant: Grant, ref: ObjectRef, removed: ObjectDeleted) -> dict[str, object]:
    return {
        "access_key": grant.access_key,
        "bucket": ref.bucket,
        "key": ref.key,
        "version": removed.number,
    }


def version_headers(version: VersionInfo) -> Iterator[tuple[str, str]]:
    """What an answer says of a version beside its bytes."""
    yield from kept_headers(version.attributes).items()
    yield "X-Version", str(version.number)
    yield "X-Version-Id", version.version_id


def _declared_size(headers: Mapping[str, str]) -> int:
    for name in _SIZE_HEADERS:
        text = headers.get(name)
        if text is not None:
            if not (text.isascii() and text.isdecimal()) or len(text) > _SIZE_DIGITS_MAX:
                raise InvalidArgument(f"{name} is a whole number of bytes.")
            return int(text)
    raise InvalidArgument("A resumable upload needs its Size, in bytes.")
