"""Uploads in numbered chunks: any order, any frontend, each chunk once, then one object."""

from collections.abc import AsyncIterator, Iterator, Mapping

from msgspec.structs import replace

from frontend.flows.append import append_body
from frontend.flows.finish import (
    check_sha256,
    is_better_rewritten,
    name_upload,
    rewrite,
    stored,
)
from frontend.flows.put import StoredObject
from frontend.flows.store import Store
from frontend.flows.uploads import (
    abort_in_background,
    abort_upload,
    begin_upload,
    find_upload,
    hash_staged,
)
from osscore.errors import (
    ChunkAlreadyHeld,
    Conflict,
    ContentMismatch,
    EntityTooLarge,
    NoSuchUpload,
    NoSuchVersion,
    UploadOutOfOrder,
)
from ossd.disk import Bytes
from raftmeta.commands import Conditions, Done, KeepChunk, LinkChunks, Staged, UploadPlan
from raftmeta.queries import Chunk, ChunksListed, ListChunks, UploadFound

_LINK_ROWS_MAX = 1_500
_LINK_CHUNKS_MAX = 300
_ATTEMPTS_MAX = 3
_LOOKS_MAX = 10
_RUNS_TOLD_MAX = 20
_IS_SAME = {True: ", of just that SHA-256", False: ", of another SHA-256 than is declared now"}


async def list_chunks(store: Store, upload: bytes) -> tuple[Chunk, ...]:
    """The chunks an upload holds, by number. Raises NoSuchUpload."""
    return (await store.meta.query(ListChunks(upload=upload), ChunksListed)).chunks


async def store_chunk(
    store: Store,
    parent: UploadFound,
    number: int,
    body: AsyncIterator[Bytes],
    *,
    size_bytes: int | None = None,
    sha256: bytes | None = None,
    replaces: bool = False,
) -> None:
    """Store `body` as chunk `number` of an upload; acknowledged only when it is whole.

    `sha256`: what the chunk has, if its sender says so; else ContentMismatch is raised. Raises
    ChunkAlreadyHeld unless it `replaces`, EntityTooLarge (with the chunks held it
    would outgrow the plan), IncompleteBody, NoSuchUpload, Conflict (the chunks are being put
    together), the Unavailable family. The upload is as before then.
    """
    plan = await _plan_chunk(store, parent, number, sha256, replaces=replaces)
    upload = await begin_upload(
        store, parent.bucket, parent.key, plan, ttl_s=store.settings.upload_ttl_s
    )
    try:
        found = await find_upload(store, upload)
        appended = await append_body(store, found, body, size_bytes=size_bytes)
        assert appended.sha256 is not None, "a chunk comes in one request"
        if sha256 is not None and appended.sha256 != sha256:
            raise ContentMismatch(
                f"Chunk {number} came with SHA-256 {appended.sha256.hex()}, its sender declares"
                f" {sha256.hex()}: it is not held."
            )
        command = KeepChunk(
            upload=upload,
            parent=parent.upload,
            number=number,
            size_bytes=appended.staged_bytes,
            sha256=appended.sha256,
            replaces=replaces,
        )
        await store.meta.propose(command, Done)
    except BaseException:
        abort_in_background(store, upload)
        raise


async def _plan_chunk(
    store: Store, parent: UploadFound, number: int, sha256: bytes | None, *, replaces: bool
) -> UploadPlan:
    chunks = await list_chunks(store, parent.upload)
    others = [chunk for chunk in chunks if chunk.number != number]
    held = next((chunk for chunk in chunks if chunk.number == number), None)
    if held is not None and not replaces:
        is_same = "" if sha256 is None else _IS_SAME[held.sha256 == sha256]
        raise ChunkAlreadyHeld(f"The upload holds a chunk {number} already{is_same}.")
    most = parent.plan.size_bytes
    if most is None:
        most = store.settings.object_bytes_max
    left = most - parent.staged_bytes - sum(chunk.size_bytes for chunk in others)
    if left < 0:
        raise EntityTooLarge(f"The upload may have {most} bytes in all.")
    return UploadPlan(
        owner=parent.plan.owner,
        owner_since_ms=parent.plan.owner_since_ms,
        size_bytes=left,
        is_declared=sha256 is not None,
        profile=parent.plan.profile,
    )


async def finish_chunks(
    store: Store,
    upload: bytes,
    *,
    content: Mapping[str, str] | None = None,
    conditions: Conditions | None = None,
) -> StoredObject:
    """Make one object of an upload's chunks in the order of their numbers, which begin at 0
    or 1 and have no gap; again: the same version.

    `content`: its content headers, where they were not known when the upload was begun.

    Raises ContentMismatch (a chunk is missing: which; or the content is not what the upload
    was begun for): the chunks stay, and one may be replaced; but if one was replaced while
    they were being put together, the upload is gone, to be begun anew. Raises
    PreconditionFailed (the upload stays, too), NoSuchUpload, Conflict (several finish at
    once, without end), the Unavailable family.
    """
    for _ in range(_ATTEMPTS_MAX):
        found, chunks = await look_at_chunks(store, upload)
        if found.finished is not None:
            return stored(found.finished, found.staged_bytes, found.plan.sha256)
        if content is not None:
            found = replace(found, plan=replace(found.plan, content=dict(content)))
        try:
            return await _finish_once(store, found, chunks, conditions)
        except (UploadOutOfOrder, NoSuchUpload, NoSuchVersion):
            continue  # another request links the same chunks, or has just finished
        except ContentMismatch:
            if found.staged_count:
                # A chunk was replaced after others were linked, which cannot be taken back.
                await abort_upload(store, upload)
            raise
    raise Conflict("Several requests finish this upload; try again.")


async def look_at_chunks(store: Store, upload: bytes) -> tuple[UploadFound, tuple[Chunk, ...]]:
    """The upload and its chunks as they were at one moment: what another request links between
    our questions is in neither answer. Raises NoSuchUpload, Conflict."""
    found = await find_upload(store, upload)
    for _ in range(_LOOKS_MAX):
        if found.finished is not None:
            return found, ()
        chunks = await list_chunks(store, upload)
        before, found = found, await find_upload(store, upload)
        if (before.manifest, before.staged_count) == (found.manifest, found.staged_count):
            return found, chunks
    raise Conflict("Another request puts these chunks together; try again.")


async def _finish_once(
    store: Store, found: UploadFound, chunks: tuple[Chunk, ...], conditions: Conditions | None
) -> StoredObject:
    if not found.staged_count:
        _check_complete(chunks)
    parts = [(found.manifest, found.staged_bytes)]
    parts += [(chunk.manifest, chunk.size_bytes) for chunk in chunks]
    size_bytes = sum(size for _, size in parts)
    stripe_count = found.staged_count + sum(chunk.segment_count for chunk in chunks)
    try:
        if await is_better_rewritten(store, size_bytes, stripe_count):
            return await rewrite(store, found, parts, conditions)
        digest = await hash_staged(store, parts)
        check_sha256(digest, found.plan.sha256)
    except ContentMismatch as error:
        raise ContentMismatch(f"{error.message} {_suspects(found, chunks)}") from error
    await _link(store, found, chunks)
    return await name_upload(store, found, digest, size_bytes, conditions)


def _check_complete(chunks: tuple[Chunk, ...]) -> None:
    numbers = [chunk.number for chunk in chunks]
    first = 1 if numbers and numbers[0] > 0 else 0
    for expected, number in enumerate(numbers, start=first):
        if number != expected:
            raise ContentMismatch(f"Chunk {expected} is missing.")


def _suspects(found: UploadFound, chunks: tuple[Chunk, ...]) -> str:
    """Which chunks may be the wrong one, as far as anybody can know."""
    if found.staged_count:
        return "Chunks were replaced while they were put together."
    unsaid = [chunk.number for chunk in chunks if not chunk.is_declared]
    if not unsaid:
        return (
            "Every chunk has the SHA-256 its sender declared: numbers were mixed up, or one of"
            " the hashes is wrong."
        )
    if len(unsaid) == len(chunks):
        return "Which chunk is wrong nobody can tell: none was declared with a SHA-256 of its own."
    return (
        f"Chunks without a declared SHA-256 of their own, of which one may be wrong:"
        f" {_runs(unsaid)}. All others have theirs."
    )


def _runs(numbers: list[int]) -> str:
    """Rising numbers as text, such as `0, 3-5`; of very many the first."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    told = [str(a) if a == b else f"{a}-{b}" for a, b in runs[:_RUNS_TOLD_MAX]]
    return ", ".join(told) + (", ..." if len(runs) > len(told) else "")


async def _link(store: Store, found: UploadFound, chunks: tuple[Chunk, ...]) -> None:
    position = found.staged_count
    # Empty chunks are left to end with the upload: linking one moves nothing, and an upload of
    # which only such were linked would look as if they were missing.
    for batch in _batches([chunk for chunk in chunks if chunk.segment_count]):
        command = LinkChunks(
            upload=found.upload,
            position=position,
            chunks=tuple(chunk.upload for chunk in batch),
        )
        await store.meta.propose(command, Staged)
        position += sum(chunk.segment_count for chunk in batch)


def _batches(chunks: list[Chunk]) -> Iterator[list[Chunk]]:
    """Runs of chunks that one bounded command can link."""
    batch: list[Chunk] = []
    rows = 0
    for chunk in chunks:
        cost = 4 + 2 * chunk.segment_count
        if batch and (rows + cost > _LINK_ROWS_MAX or len(batch) >= _LINK_CHUNKS_MAX):
            yield batch
            batch, rows = [], 0
        batch.append(chunk)
        rows += cost
    if batch:
        yield batch
