"""Receiving a full copy of the catalog, and making it this member's state.

For a member without state (joining) and for a voter that fell behind the leader's log. In
both cases the copy goes into a new state folder; nothing counts until CURRENT names it.
"""

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from osscore.errors import CorruptCatalog, DeadlineExceeded, StoreError
from ossd.disk import Disk, DiskFile
from ossd.rpc import Downloader, Reply, check
from raftmeta.identity import (
    CATALOG_NAME,
    JOURNAL_NAME,
    Identity,
    MemberState,
    MetadataFolder,
)
from raftmeta.journal import Journal
from raftmeta.snapshots import HEAD_HEADER, head_from_header
from raftmeta.wire import RESTORED, SNAPSHOT, Form, Restored, SnapshotHead, Status

_CLUSTER_ID = re.compile("[0-9a-f]{32}")
FETCH_DEADLINE_S = 6 * 3600.0
FIRST_PIECE_S = 600.0
"""The leader first copies and hashes its whole catalog."""
NEXT_PIECE_S = 30.0
TAIL_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Vote:
    """A term and for whom this member voted in it."""

    term: int
    voted_for: str | None


def vote_after(own: Vote | None, head: SnapshotHead) -> Vote:
    """The vote to go on with after installing a copy.

    A vote once cast is never forgotten, and in the term of the copy's leader this member
    votes for nobody else: so two leaders of one term cannot both count on it.
    """
    if own is None or head.term > own.term:
        return Vote(head.term, head.leader)
    if own.term == head.term and own.voted_for is None:
        return Vote(own.term, head.leader)
    return own


def is_of_use(head: SnapshotHead, *, journal: Journal, applied_index: int) -> bool:
    """Whether a copy brings a voter with this log and catalog further."""
    if applied_index >= head.applied_index:
        return False
    reaches_copy = journal.term_at(head.applied_index) == head.entry_term
    # A log that begins where the catalog ends, and reaches to where the copy ends, is the
    # cheaper way. One that begins later continues a catalog that is gone.
    return not (reaches_copy and journal.base_index <= applied_index)


def keep_tail(journal: Journal, fresh: Journal, head: SnapshotHead) -> None:
    """Carry what the old log holds behind the copy over into the fresh one.

    This member may have acknowledged it: throwing it away could lose a committed entry. A
    log that differs at the copy's last entry holds nothing behind it that was committed.
    """
    if journal.term_at(head.applied_index) != head.entry_term:
        return
    while fresh.last_index < journal.last_index:
        for entry in journal.entries(fresh.last_index + 1, bytes_max=TAIL_BYTES):
            fresh.append(entry.index, entry.term, entry.body)
        fresh.sync()  # each time: a segment of the log ends only at a sync


def is_formed(status: Status) -> bool:
    """Whether this answer is of a formed cluster.

    A metanode tells a cluster id only once the cluster's first command is applied, so a
    cluster still being formed is never joined (forming tells its members itself).
    """
    return _CLUSTER_ID.fullmatch(status.cluster_id) is not None


def lists_me(status: Status, identity: Identity) -> bool:
    """Whether this answer shows a formed cluster that counts this metanode as a member."""
    if not is_formed(status):
        return False
    return any(
        member.id == identity.id and member.raft == identity.raft for member in status.members
    )


class Installer:
    """Fetches copies into the folder of this member."""

    def __init__(self, *, folder: MetadataFolder, rpc: Downloader, disk: Disk) -> None:
        self._folder = folder
        self._rpc = rpc
        self._disk = disk

    async def fetch(self, leader_url: str, *, forgets: bool) -> tuple[Path, SnapshotHead]:
        """A verified copy in a new state folder that does not count yet.

        `forgets`: this member has no state. Raises what the leader answers, and
        CorruptCatalog if the bytes are not those it described.
        """
        query = f"joining={self._folder.identity.id}" + ("" if forgets else "&lagging=1")
        return await self._fetch(f"{leader_url}{SNAPSHOT}?{query}", None)

    async def fetch_restored(self, restored: Restored) -> Path:
        """The catalog that a restored cluster begins with, verified, in a new state folder
        that does not count yet. Raises as `fetch`."""
        return (await self._fetch(restored.url + RESTORED, restored.head))[0]

    async def _fetch(self, url: str, expected: SnapshotHead | None) -> tuple[Path, SnapshotHead]:
        state = await asyncio.to_thread(self._folder.begin_state)
        file = self._disk.open(state / CATALOG_NAME, create=True)
        try:
            copy = _Copy(file)
            head = await self._download(url, copy)
            copy.verify(expected or head)
            await asyncio.to_thread(file.sync)
        finally:
            file.close()
        return state, head

    def begin(self, state: Path, form: Form, head: SnapshotHead) -> None:
        """Make a fetched catalog the first state of this empty member, behind which the log
        begins. Blocks; durable on return; a crash leaves it empty or a voter."""
        Journal.create(
            state / JOURNAL_NAME,
            disk=self._disk,
            base_index=head.applied_index,
            base_term=head.entry_term,
            term=head.term,
        ).close()
        self._folder.switch(state)
        self._folder.write_identity(
            self._folder.identity.with_cluster(MemberState.VOTER, form.cluster_id, form.members)
        )

    async def _download(self, url: str, copy: "_Copy") -> SnapshotHead:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(FIRST_PIECE_S) as patience:

                async def take(piece: bytes) -> None:
                    await copy.take(piece)
                    patience.reschedule(loop.time() + NEXT_PIECE_S)

                reply = check(await self._rpc.download(url, take, deadline_s=FETCH_DEADLINE_S))
        except TimeoutError as error:
            raise DeadlineExceeded(f"{url} stopped sending.") from error
        return _head_of(reply)

    def install(self, state: Path, head: SnapshotHead, *, own: Journal | None) -> None:
        """Make a fetched copy the state that counts; `own` is the log of a voter. Blocks;
        durable on return. A crash anywhere in it leaves the old state or the new, whole.
        """
        identity = self._folder.identity
        if identity.cluster_id not in (b"", head.cluster_id):
            raise CorruptCatalog("The copy is of another cluster.")
        vote = vote_after(None if own is None else Vote(own.term, own.voted_for), head)
        fresh = Journal.create(
            state / JOURNAL_NAME,
            disk=self._disk,
            base_index=head.applied_index,
            base_term=head.entry_term,
            term=vote.term,
            voted_for=vote.voted_for,
        )
        try:
            if own is not None:
                keep_tail(own, fresh, head)
        finally:
            fresh.close()
        self._folder.switch(state)
        if identity.state is not MemberState.VOTER:
            # Last: as long as this says joining, everything above is done again.
            self._folder.write_identity(
                identity.with_cluster(MemberState.VOTER, head.cluster_id, head.members)
            )
        self._folder.remove_leftovers()


class _Copy:
    """A file being received: written, counted and hashed piece by piece."""

    def __init__(self, file: DiskFile) -> None:
        self._file = file
        self._hasher = blake3()
        self._size_bytes = 0

    async def take(self, piece: bytes) -> None:
        await asyncio.to_thread(self._write, piece)

    def _write(self, piece: bytes) -> None:
        self._file.pwrite([piece], self._size_bytes)
        self._hasher.update(piece)
        self._size_bytes += len(piece)

    def verify(self, head: SnapshotHead) -> None:
        if (self._size_bytes, self._hasher.digest()) != (head.size_bytes, head.blake3):
            raise CorruptCatalog(
                f"The copy has {self._size_bytes} of {head.size_bytes} bytes or a wrong digest."
            )


def _head_of(reply: Reply) -> SnapshotHead:
    try:
        return head_from_header(reply.headers.get(HEAD_HEADER, ""))
    except ValueError as error:
        raise StoreError(f"The copy came without a readable {HEAD_HEADER}: {error}") from error
