"""Files known by their content: objects of bucket `files` whose key is their SHA-256 in hex.

Such an object counts only if it really has that content: whoever may write to the bucket by
other ways may put anything under any key. What was stored once is not stored again, in one
piece or in chunks; the upload of a file in chunks is the same for everybody who brings some.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from hashlib import sha256 as sha256_of

from msgspec.structs import replace

from frontend.flows.chunks import finish_chunks, list_chunks, look_at_chunks, store_chunk
from frontend.flows.listing import list_versions
from frontend.flows.objects import FIRST_SEGMENTS, ObjectRef, delete_object, find_object
from frontend.flows.put import PutRequest, put_object
from frontend.flows.store import Store
from frontend.flows.uploads import abort_upload, begin_upload, find_upload
from osscore.digests import blake3_256
from osscore.errors import (
    BadDigest,
    ContentMismatch,
    EntityTooLarge,
    NoSuchKey,
    NoSuchUpload,
    NotFound,
    PreconditionFailed,
)
from ossd.disk import Bytes
from raftmeta.access import SYSTEM
from raftmeta.commands import Conditions, UploadPlan
from raftmeta.credentials import AuditNote
from raftmeta.queries import Chunk, Found, UploadFound

BUCKET = "files"
_EMPTY = sha256_of(b"").digest()
_REMOVE_PAGE = 200


async def find_file(
    store: Store, sha256: bytes, *, first: int = 0, segments_max: int = FIRST_SEGMENTS
) -> Found:
    """The file of that content, and where its bytes from `first` on lie. Raises NoSuchKey."""
    ref = ObjectRef(bucket=BUCKET, key=sha256.hex())
    try:
        found = await find_object(store, ref, first=first, segments_max=segments_max)
    except NotFound as error:
        raise NoSuchKey("There is no file of that hash.") from error
    if found.version.attributes.sha256 != sha256:
        raise NoSuchKey("What lies under that hash in the bucket is another content.")
    return found


async def is_stored(store: Store, sha256: bytes) -> bool:
    """Whether there is a file of that content."""
    try:
        await find_file(store, sha256, segments_max=1)
    except NoSuchKey:
        return False
    return True


async def store_file(
    store: Store,
    sha256: bytes,
    body: AsyncIterator[Bytes],
    *,
    content: Mapping[str, str],
) -> None:
    """Store a body that has this SHA-256.

    Raises ContentMismatch, after which nothing is stored; else as put_object.
    """
    request = PutRequest(
        bucket=BUCKET,
        key=sha256.hex(),
        size_bytes=None,
        content=content,
        sha256=sha256,
        conditions=_unless_stored(sha256),
        creates_bucket=True,
    )
    try:
        await put_object(store, request, body)
    except PreconditionFailed:
        pass  # somebody else has just stored the same
    except BadDigest as error:
        raise ContentMismatch(error.message) from error


def _unless_stored(sha256: bytes) -> Conditions:
    return Conditions(if_none_match=(sha256.hex(),))


# --- in chunks -------------------------------------------------------------------------------


def upload_id(sha256: bytes) -> bytes:
    """The id of the upload in chunks of a file: 16 bytes, the same everywhere."""
    return blake3_256(b"raftoss file " + sha256)[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileUpload:
    """An upload in chunks as one who brings some sees it: how long it waits for more, and how
    many bytes the chunks may have together, None: any number."""

    sha256: bytes
    ttl_s: float
    size_bytes_max: int | None


async def store_file_chunk(
    store: Store,
    upload: FileUpload,
    number: int,
    body: AsyncIterator[Bytes],
    *,
    chunk_sha256: bytes | None,
    replaces: bool,
) -> tuple[Chunk, ...]:
    """Store one chunk of a file and answer all that are held: none, if the file is whole
    meanwhile. `chunk_sha256`: what its sender declares. Raises as store_chunk."""
    parent = await _open(store, upload)
    try:
        await store_chunk(store, parent, number, body, sha256=chunk_sha256, replaces=replaces)
        return await list_chunks(store, parent.upload)
    except NoSuchUpload:
        if await is_stored(store, upload.sha256):
            return ()  # another request finished it beside this one
        raise


async def _open(store: Store, upload: FileUpload) -> UploadFound:
    """The upload, begun if nobody has."""
    sha256 = upload.sha256
    found = await _find_open(store, sha256)
    if found is None:
        await begin_upload(
            store,
            BUCKET,
            sha256.hex(),
            UploadPlan(owner=SYSTEM, sha256=sha256),
            ttl_s=upload.ttl_s,
            upload=upload_id(sha256),
            creates_bucket=True,
            restarts=True,
            waits=True,
        )
        found = await find_upload(store, upload_id(sha256))
    # What a token allows binds those who hold it, not the upload, which others may go on with.
    return replace(found, plan=replace(found.plan, size_bytes=upload.size_bytes_max))


async def finish_file(
    store: Store, sha256: bytes, *, content: Mapping[str, str], size_bytes_max: int | None
) -> None:
    """Make a file of its chunks; one that is stored stays as it is, and chunks go.

    Raises ContentMismatch (a chunk is missing: which; or another content: the chunks stay),
    EntityTooLarge, and as finish_chunks.
    """
    if await is_stored(store, sha256):
        await abort_upload(store, upload_id(sha256))
        return
    found, chunks = await _look_open(store, sha256)
    if found is None and await is_stored(store, sha256):
        return  # another request finished it between our two questions
    if found is None and sha256 == _EMPTY:
        await store_file(store, sha256, _nothing(), content=content)
        return
    if found is None or not (chunks or found.staged_count):
        raise ContentMismatch("Chunk 0 is missing: none is held.")
    size_bytes = found.staged_bytes + sum(chunk.size_bytes for chunk in chunks)
    if size_bytes_max is not None and size_bytes > size_bytes_max:
        raise EntityTooLarge(f"The chunks have {size_bytes} bytes, allowed are {size_bytes_max}.")
    try:
        await finish_chunks(store, found.upload, content=content, conditions=_unless_stored(sha256))
    except PreconditionFailed:
        await abort_upload(store, found.upload)  # it has come whole meanwhile


async def _find_open(store: Store, sha256: bytes) -> UploadFound | None:
    try:
        found = await find_upload(store, upload_id(sha256))
    except NoSuchUpload:
        return None
    return found if found.finished is None else None


async def _look_open(store: Store, sha256: bytes) -> tuple[UploadFound | None, tuple[Chunk, ...]]:
    try:
        found, chunks = await look_at_chunks(store, upload_id(sha256))
    except NoSuchUpload:
        return None, ()
    return (found, chunks) if found.finished is None else (None, ())


async def _nothing() -> AsyncIterator[Bytes]:
    no_pieces: tuple[Bytes, ...] = ()
    for piece in no_pieces:
        yield piece


# --- for good --------------------------------------------------------------------------------


async def remove_file(store: Store, sha256: bytes, *, audit: AuditNote | None = None) -> None:
    """Remove a file, every version of it and every chunk, for good. Raises NoSuchKey: then
    nothing has changed, and an upload under way goes on.

    `audit` goes with the first version that is removed: where there is none, nothing is said.
    """
    key = sha256.hex()
    numbers = await _version_numbers(store, key)
    if not numbers:
        raise NoSuchKey("There is no file of that hash.")
    # First: once the file has gone, whoever asks again after a lost answer is told so at once.
    await abort_upload(store, upload_id(sha256))
    removed_count = 0
    while numbers:
        for number in numbers:
            try:
                ref = ObjectRef(bucket=BUCKET, key=key, number=number)
                note = None if removed_count else audit
                await delete_object(store.meta, ref, Conditions(), audit=note)
            except NotFound:
                continue  # another request removes it as well
            removed_count += 1
        numbers = await _version_numbers(store, key)
    if not removed_count:
        raise NoSuchKey("There is no file of that hash.")


async def _version_numbers(store: Store, key: str) -> list[int]:
    try:
        listed = await list_versions(store, BUCKET, key=key, limit=_REMOVE_PAGE)
    except NotFound:
        return []
    return [version.number for version in listed.versions]
