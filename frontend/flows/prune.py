"""Removing old versions on request: one bounded step, which says where the next one begins."""

import asyncio
from dataclasses import dataclass

from frontend.flows.store import Store
from raftmeta.commands import Done, PruneVersions, SetKeepVersions, VersionsPruned
from raftmeta.credentials import AuditNote, NoteAudit
from raftmeta.queries import FindPrunable, PrunableFound, PrunableKey

KEYS_MAX = 200
"""Keys pruned by one step."""
_AT_ONCE = 16
_COMMANDS_PER_KEY = 8
_COUNT_MAX = 1 << 31
"""The catalog refuses far smaller counts; no wire carries every number a client may write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneStep:
    """What of which keys. `keep`: real versions that stay. `key` empty: those with `prefix`
    behind `after`. `is_dry_run`: only say what would go."""

    bucket: str
    keep: int
    key: str = ""
    prefix: str = ""
    after: str = ""
    is_dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was, or would be, removed. `visited`: keys looked at; some of them again when `next`
    goes back to a key that was not finished. `next`: the `after` of the next step, None: done."""

    keys: tuple[PrunableKey, ...]
    visited: int
    next: str | None


async def prune_step(store: Store, step: PruneStep, *, audit: AuditNote | None) -> Pruned:
    """Look at one page of keys and prune them. Repeating a step is harmless.

    `audit` is recorded before anything is removed; None: the step belongs to one whose row stands.
    A dry run removes nothing. Raises NoSuchBucket, NoSuchKey, InvalidArgument.
    """
    found = await store.meta.query(
        FindPrunable(
            bucket=step.bucket,
            keep=min(step.keep, _COUNT_MAX),
            key=step.key,
            prefix=step.prefix,
            after_key=step.after,
            limit=KEYS_MAX,
        ),
        PrunableFound,
    )
    if step.is_dry_run:
        return Pruned(found.keys, found.visited, found.next)
    if audit is not None:
        await store.meta.propose(NoteAudit(), Done, audit=audit)
    done: list[PrunableKey] = []
    for at in range(0, len(found.keys), _AT_ONCE):
        group = [key.key for key in found.keys[at : at + _AT_ONCE]]
        outcomes = await asyncio.gather(*(_prune(store, step, key) for key in group))
        done += [pruned for pruned, _ in outcomes]
        unfinished = [key for key, (_, is_done) in zip(group, outcomes, strict=True) if not is_done]
        if unfinished:
            # The rest of the group was pruned too; finding nothing there again is cheap.
            before = [each.key for each in found.keys if each.key < unfinished[0]]
            return Pruned(tuple(done), found.visited, before[-1] if before else step.after)
    return Pruned(tuple(done), found.visited, found.next)


async def keep_versions(
    store: Store, bucket: str, count: int, *, audit: AuditNote | None = None
) -> None:
    """From now on the leader keeps that many versions of each object; 0: all.

    Raises NoSuchBucket, InvalidArgument.
    """
    command = SetKeepVersions(bucket=bucket, keep_versions=min(count, _COUNT_MAX))
    await store.meta.propose(command, Done, audit=audit)


async def _prune(store: Store, step: PruneStep, key: str) -> tuple[PrunableKey, bool]:
    """What was removed of one key, and whether that was all."""
    version_count = marker_count = size_bytes = 0
    is_done = False
    for _ in range(_COMMANDS_PER_KEY):
        pruned = await store.meta.propose(
            PruneVersions(bucket=step.bucket, key=key, keep=step.keep), VersionsPruned
        )
        version_count += pruned.versions
        marker_count += pruned.markers
        size_bytes += pruned.size_bytes
        is_done = pruned.is_done
        if is_done:
            break
    gone = PrunableKey(key=key, versions=version_count, markers=marker_count, size_bytes=size_bytes)
    return gone, is_done
