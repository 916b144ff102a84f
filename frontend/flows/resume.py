"""Resumable uploads of the native API: begun for known content, continued, finished."""

from collections.abc import AsyncIterator, Callable

from frontend.flows.append import append_body
from frontend.flows.finish import finish_upload, stored
from frontend.flows.objects import check_conditions
from frontend.flows.put import StoredObject
from frontend.flows.store import Store
from frontend.flows.uploads import begin_upload, find_upload
from osscore.errors import Conflict, EntityTooLarge, InvalidRange, NoSuchVersion, UploadOutOfOrder
from osscore.model import ObjectAttributes
from ossd.disk import Bytes
from raftmeta.commands import Conditions, CopyBody, ObjectPut, PutObject, UploadPlan
from raftmeta.queries import FindDigest, ObjectsFound, UploadFound


async def begin_or_copy(
    store: Store,
    bucket: str,
    key: str,
    plan: UploadPlan,
    conditions: Conditions,
    *,
    ttl_s: float,
    creates_bucket: bool,
    may_read: Callable[[str], bool],
) -> StoredObject | bytes:
    """A new version at once where the bucket holds an object of that content already that the
    caller `may_read`, by its key; else the id of a new upload.

    Raises EntityTooLarge, PreconditionFailed, NoSuchBucket, the Unavailable family.
    """
    if (plan.size_bytes or 0) > store.settings.object_bytes_max:
        raise EntityTooLarge(f"An object has at most {store.settings.object_bytes_max} bytes.")
    await check_conditions(store, bucket, key, conditions)
    known = await _copy_known(store, bucket, key, plan, conditions, may_read)
    if known is not None:
        return known
    return await begin_upload(
        store, bucket, key, plan, ttl_s=ttl_s, creates_bucket=creates_bucket, waits=True
    )


async def _copy_known(
    store: Store,
    bucket: str,
    key: str,
    plan: UploadPlan,
    conditions: Conditions,
    may_read: Callable[[str], bool],
) -> StoredObject | None:
    # Knowing a hash must not open what lies in another bucket, or where the caller may not.
    found = await store.meta.query(FindDigest(sha256=plan.sha256), ObjectsFound)
    for version in found.versions:
        size_bytes = version.attributes.size_bytes
        is_same = version.bucket == bucket and size_bytes == plan.size_bytes
        if is_same and may_read(version.key):
            command = PutObject(
                bucket=bucket,
                key=key,
                attributes=ObjectAttributes(
                    size_bytes=size_bytes,
                    sha256=plan.sha256,
                    content=plan.content,
                    user=plan.user,
                ),
                body=CopyBody(bucket=bucket, key=version.key, number=version.number),
                conditions=conditions,
            )
            try:
                put = await store.meta.propose(command, ObjectPut)
            except NoSuchVersion:
                continue  # removed since
            return stored(put, size_bytes, plan.sha256)
    return None


async def continue_upload(
    store: Store,
    upload: bytes,
    offset: int,
    body: AsyncIterator[Bytes],
    *,
    size_bytes: int | None,
) -> UploadFound | StoredObject:
    """Add `body` at `offset`; answers the version once the upload is whole, else where it
    stands.

    Raises InvalidRange (its size_bytes is the offset that is right), EntityTooLarge,
    IncompleteBody (what came is kept), ContentMismatch, NoSuchUpload, the Unavailable family.
    """
    found = await find_upload(store, upload)
    if offset != found.staged_bytes:
        raise _wrong_offset(found)
    if found.finished is not None:
        await _check_empty(body, size_bytes)
        return await finish_upload(store, found)
    if found.sealed:
        raise Conflict("This upload is whole; confirm it or remove it.")
    try:
        appended = await append_body(store, found, body, size_bytes=size_bytes)
    except UploadOutOfOrder as error:
        raise _wrong_offset(await find_upload(store, upload)) from error
    found = await find_upload(store, upload)
    if found.finished is None and appended.staged_bytes != found.plan.size_bytes:
        return found
    return await finish_upload(store, found, sha256=appended.sha256)


async def _check_empty(body: AsyncIterator[Bytes], size_bytes: int | None) -> None:
    """Raises EntityTooLarge: an upload that became a version takes nothing more."""
    pieces = (len(piece) async for piece in body)
    if size_bytes or (size_bytes is None and await anext(pieces, 0)):
        raise EntityTooLarge("The upload is whole: it has room for 0 bytes more.")


def _wrong_offset(found: UploadFound) -> InvalidRange:
    held = found.staged_bytes
    return InvalidRange(f"The upload holds {held} bytes: continue there.", size_bytes=held)
