"""An upload becomes a version, exactly once: what it is was read back, or seen by one request."""

from contextlib import aclosing

from frontend.flows.put import PutRequest, StoredObject, put_object
from frontend.flows.store import Store
from frontend.flows.uploads import abort_upload, find_upload, hash_staged, read_staged
from osscore.errors import BadDigest, ContentMismatch, NoSuchUpload, NoSuchVersion
from osscore.model import STRIPE_BYTES_MAX, ObjectAttributes
from raftmeta.commands import Conditions, ObjectPut, PutObject, UploadBody
from raftmeta.queries import UploadFound

_STRIPES_PER_FULL_MAX = 4
"""An upload cut into more pieces than this for each full stripe is written anew: its object
would be slow to read for ever, and shared with no other."""


async def finish_upload(
    store: Store, found: UploadFound, *, sha256: bytes | None = None
) -> StoredObject:
    """Make a version of an upload that holds all its bytes; again: the same version.

    `sha256`: what one request saw all of it hash to; else it is read back. Raises
    ContentMismatch, after which the upload is gone, since no byte of it can be changed;
    NoSuchUpload, NoSuchBucket, the Unavailable family.
    """
    if found.finished is not None:
        return stored(found.finished, found.staged_bytes, found.plan.sha256)
    try:
        return await _finish_open(store, found, sha256)
    except (NoSuchVersion, NoSuchUpload):
        # Another request has finished it, by other stripes, while this one read the old ones.
        now = await find_upload(store, found.upload)
        if now.finished is None:
            raise
        return stored(now.finished, now.staged_bytes, now.plan.sha256)


async def _finish_open(store: Store, found: UploadFound, sha256: bytes | None) -> StoredObject:
    parts = [(found.manifest, found.staged_bytes)]
    if sha256 is None and found.sealed:
        sha256 = found.plan.sha256
    try:
        if await is_better_rewritten(store, found.staged_bytes, found.staged_count):
            return await rewrite(store, found, parts)
        digest = sha256 or await hash_staged(store, parts)
        check_sha256(digest, found.plan.sha256)
    except ContentMismatch:
        await abort_upload(store, found.upload)
        raise
    return await name_upload(store, found, digest, found.staged_bytes)


async def is_better_rewritten(store: Store, size_bytes: int, stripe_count: int) -> bool:
    """Whether an object of these stripes should be cut anew, or kept in the catalog."""
    inline_bytes_max = (await store.cluster.current()).described.inline_bytes_max
    full_count = -(-size_bytes // STRIPE_BYTES_MAX)
    return size_bytes <= inline_bytes_max or stripe_count > _STRIPES_PER_FULL_MAX * full_count


async def rewrite(
    store: Store,
    found: UploadFound,
    parts: list[tuple[int, int]],
    conditions: Conditions | None = None,
) -> StoredObject:
    """Put what the parts hold as any body is put, and finish the upload with that.

    Raises ContentMismatch and as put_object.
    """
    plan = found.plan
    request = PutRequest(
        bucket=found.bucket,
        key=found.key,
        size_bytes=sum(size_bytes for _, size_bytes in parts),
        profile=plan.profile,
        content=plan.content,
        user=plan.user,
        sha256=plan.sha256 or None,
        conditions=conditions or Conditions(),
        finishes=found.upload,
    )
    try:
        async with store.rewriting, aclosing(read_staged(store, parts)) as body:
            return await put_object(store, request, body)
    except BadDigest as error:
        raise ContentMismatch(error.message) from error


async def name_upload(
    store: Store,
    found: UploadFound,
    sha256: bytes,
    size_bytes: int,
    conditions: Conditions | None = None,
) -> StoredObject:
    """Name what is staged under an upload as it stands. Raises as PutObject refuses."""
    command = PutObject(
        bucket=found.bucket,
        key=found.key,
        attributes=ObjectAttributes(
            size_bytes=size_bytes,
            sha256=sha256,
            content=found.plan.content,
            user=found.plan.user,
        ),
        body=UploadBody(upload=found.upload),
        conditions=conditions or Conditions(),
        finishes=found.upload,
    )
    return stored(await store.meta.propose(command, ObjectPut), size_bytes, sha256)


def check_sha256(found: bytes, planned: bytes) -> None:
    """Raises ContentMismatch unless they agree; nothing planned agrees with anything."""
    if planned and found != planned:
        raise ContentMismatch(
            f"The content has SHA-256 {found.hex()}, the upload was begun for {planned.hex()}."
        )


def stored(put: ObjectPut, size_bytes: int, sha256: bytes) -> StoredObject:
    """A version as flows tell of it."""
    return StoredObject(
        number=put.number,
        version_id=put.version_id,
        created_at_ms=put.created_at_ms,
        size_bytes=size_bytes,
        sha256=sha256,
    )
