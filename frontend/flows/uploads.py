"""Uploads that outlive their request: begun, found, filled, closed, given up.

All of an upload is in the store: rows of the catalog and coded shards. Any frontend may go
on where another stopped, and nothing acknowledged is lost with one.
"""

import contextlib
from collections.abc import AsyncGenerator
from contextlib import aclosing

from frontend.flows.buckets import ensure_bucket
from frontend.flows.get import read_object
from frontend.flows.hashing import BodyHash
from frontend.flows.store import Store
from osscore.errors import NoSuchBucket, StoreError
from osscore.model import ObjectAttributes, VersionInfo
from ossd.disk import Bytes
from raftmeta.commands import AbortUpload, BeginUpload, Done, SealUpload, UploadPlan
from raftmeta.queries import FindUpload, Found, UploadFound


async def begin_upload(
    store: Store,
    bucket: str,
    key: str,
    plan: UploadPlan,
    *,
    ttl_s: float,
    upload: bytes = b"",
    creates_bucket: bool = False,
    restarts: bool = False,
    waits: bool = False,
) -> bytes:
    """Open an upload and answer its 16-byte id: `upload`, else a random one.

    One of that id that is open already is left as it is; one that was finished, too, unless
    it `restarts`. One that `waits` for further requests lives as long as the bucket says, where
    it does. Raises NoSuchBucket, Conflict (the id is another object's), MetadataLowSpace.
    """
    await store.check_admits_writes()
    command = BeginUpload(
        upload=upload or store.random(16),
        bucket=bucket,
        key=key,
        ttl_ms=int(ttl_s * 1000),
        plan=plan,
        restarts=restarts,
        waits=waits,
    )
    try:
        await store.meta.propose(command, Done)
    except NoSuchBucket:
        if not creates_bucket:
            raise
        await ensure_bucket(store, bucket)
        await store.meta.propose(command, Done)
    return command.upload


async def find_upload(store: Store, upload: bytes) -> UploadFound:
    """Where an upload stands. Raises NoSuchUpload."""
    return await store.meta.query(FindUpload(upload=upload), UploadFound)


async def seal_upload(store: Store, found: UploadFound, sha256: bytes, *, ttl_s: float) -> None:
    """Close an upload that is whole; `sha256` is what its bytes were seen to hash to.

    Raises NoSuchUpload, ContentMismatch, Conflict.
    """
    command = SealUpload(
        upload=found.upload,
        size_bytes=found.staged_bytes,
        sha256=sha256,
        ttl_ms=int(ttl_s * 1000),
    )
    await store.meta.propose(command, Done)


async def abort_upload(store: Store, upload: bytes) -> None:
    """Give up an upload and what it holds. Unknown or finished: no change."""
    await store.meta.propose(AbortUpload(upload=upload), Done)


def abort_in_background(store: Store, upload: bytes) -> None:
    """As `abort_upload`, as far as that can be done now; else the row expires by itself."""
    store.in_background(_give_up(store, upload))


async def _give_up(store: Store, upload: bytes) -> None:
    with contextlib.suppress(StoreError):
        await abort_upload(store, upload)


async def read_staged(store: Store, parts: list[tuple[int, int]]) -> AsyncGenerator[Bytes, None]:
    """The verified bytes of these (manifest, size in bytes), one after the other."""
    for manifest, size_bytes in parts:
        if size_bytes:
            found = _as_found(manifest, size_bytes)
            async with aclosing(read_object(store, found, 0, size_bytes - 1)) as pieces:
                async for piece in pieces:
                    yield piece


async def hash_staged(store: Store, parts: list[tuple[int, int]]) -> bytes:
    """SHA-256 of what `read_staged` gives: also the proof that it can be read."""
    body_hash = BodyHash(store)
    async with aclosing(read_staged(store, parts)) as pieces:
        async for piece in pieces:
            body_hash.add(piece)
            await body_hash.keep_up()
    return await body_hash.digest()


def _as_found(manifest: int, size_bytes: int) -> Found:
    """A manifest without a version, for the flow that reads manifests."""
    return Found(
        version=VersionInfo(
            bucket="",
            key="",
            number=0,
            version_id="",
            is_marker=False,
            is_latest=False,
            created_at_ms=0,
            attributes=ObjectAttributes(size_bytes=size_bytes),
            manifest=manifest,
        )
    )
