"""A rebuilt catalog is the one that was lost: any history, from any snapshot in it."""

from collections.abc import Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import rule

from osscore.errors import CorruptCatalog
from ossd.disk import SystemDisk
from raftmeta.archive.chains import best_chains, chain_behind
from raftmeta.archive.pieces import ArchivedEntry, SnapshotName
from raftmeta.archive.replay import make_backup
from raftmeta.backup.verification import unpack_to, verify
from raftmeta.catalog.catalog import Catalog
from raftmeta.entries import BATCH, Batch, Entry
from raftmeta.members import Member, SetMembers
from raftmeta.membership import MEMBERS
from tests.raftmeta.archive.stage import held_log, packed_snapshot
from tests.raftmeta.catalog.harness import Driver
from tests.raftmeta.catalog.test_any_history import AnyHistory

NO_OP = b"\x01"


class Log:
    """A driver whose log entries are kept with their indexes, so that some may be no-ops."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.entries: list[ArchivedEntry] = []
        self._seen = 0
        self._index = 0

    def keep(self) -> None:
        """Take note of what was applied since the last call."""
        for index in range(self._index + 1, self.driver.index + 1):
            blob = self.driver.log[self._seen]
            self._seen += 1
            self.entries.append(ArchivedEntry(index, 1, BATCH + blob))
        self._index = self.driver.index

    def begin_term(self) -> None:
        """An entry that changes nothing, as every new leader logs one."""
        self.keep()
        self.driver.index += 1
        self._index += 1
        self.entries.append(ArchivedEntry(self._index, 1, NO_OP))

    def set_members(self, *names: str) -> None:
        """A change of the metanodes, an entry of its own kind."""
        self.keep()
        members = tuple(Member(id=n, raft=f"{n}:1", url=f"http://{n}") for n in names)
        entry = Entry(0, 0, SetMembers(members=members))
        blob = msgspec.msgpack.encode(Batch(time_ms=self.driver.now_ms, entries=(entry,)))
        self._index += 1
        self.driver.index += 1
        self.driver.catalog.apply(self._index, blob)
        self.entries.append(ArchivedEntry(self._index, 1, MEMBERS + blob))


def in_pieces(entries: Sequence[ArchivedEntry], random: Random) -> list[list[ArchivedEntry]]:
    parts, at = [], 0
    while at < len(entries):
        count = random.randrange(1, 9)
        parts.append(list(entries[at : at + count]))
        at += count
    return parts


def rebuilt(
    snapshot: tuple[Path, SnapshotName], entries: Sequence[ArchivedEntry], folder: Path
) -> bytes:
    """The fingerprint of the catalog in the backup that is made of these."""
    path, name = snapshot
    work = folder / "work"
    work.mkdir()
    pieces = held_log(work, in_pieces(entries, Random(len(entries)))) if entries else []
    chain = chain_behind(name, pieces)
    assert chain.end == (entries[-1].index if entries else name.index)
    target = folder / "rebuilt.backup"
    make_backup(
        path,
        chain,
        target,
        work=work,
        disk=SystemDisk(),
        made_at_ms=5,
        program="0.1.0",
        progress=lambda index, last: None,
    )
    (folder / "look").mkdir()
    assert not verify(target, folder / "look", disk=SystemDisk()).faults
    plain = folder / "plain.db"
    unpack_to(target, plain, disk=SystemDisk())
    catalog = Catalog(plain)
    try:
        return catalog.fingerprint()
    finally:
        catalog.close()


class RebuiltHistory(AnyHistory):
    """At the end the catalog is made anew of the last snapshot and all entries before and behind
    it, and compared."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = Log(self.driver)
        self.folder = TemporaryDirectory()
        self.snapshot = packed_snapshot(self.driver.catalog, Path(self.folder.name))[:2]

    @rule()
    def take_snapshot(self) -> None:
        self.snapshot = packed_snapshot(self.driver.catalog, Path(self.folder.name))[:2]

    def teardown(self) -> None:
        self.kept.keep()
        found = rebuilt(self.snapshot, self.kept.entries, Path(self.folder.name))
        assert found == self.driver.catalog.fingerprint()
        self.folder.cleanup()
        super().teardown()


TestRebuiltHistory = RebuiltHistory.TestCase
TestRebuiltHistory.settings = settings(
    max_examples=8,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """A formed cluster with an object, then a new leader and another member."""
    driver = Driver(tmp_path / "live.sqlite")
    driver.form()
    found = Log(driver)
    found.keep()
    return found


def test_entries_of_every_kind_are_replayed_as_a_metanode_applies_them(
    log: Log, tmp_path: Path
) -> None:
    snapshot = packed_snapshot(log.driver.catalog, tmp_path)[:2]
    log.begin_term()
    log.driver.collect()
    log.keep()
    log.set_members("meta-1", "meta-4")
    log.begin_term()
    log.driver.collect()
    log.keep()
    behind = [entry for entry in log.entries if entry.index > snapshot[1].index]
    assert {entry.body[:1] for entry in behind} == {BATCH, NO_OP, MEMBERS}
    assert rebuilt(snapshot, behind, tmp_path) == log.driver.catalog.fingerprint()
    assert [member.id for member in log.driver.catalog.members()[1]] == ["meta-1", "meta-4"]


def test_copies_of_an_entry_that_differ_are_two_histories(log: Log, tmp_path: Path) -> None:
    path, name, _ = packed_snapshot(log.driver.catalog, tmp_path)
    for _ in range(3):
        log.driver.collect()
    log.keep()
    behind = [entry for entry in log.entries if entry.index > name.index]
    other = ArchivedEntry(behind[1].index, 2, b"\x00another")
    mine = held_log(tmp_path, [behind])
    theirs = held_log(tmp_path, [[behind[0], other]], source="blob-2")
    (chain,) = best_chains([name], [*mine, *theirs])
    (tmp_path / "work").mkdir()
    with pytest.raises(CorruptCatalog, match="is another at blob-2"):
        make_backup(
            path,
            chain,
            tmp_path / "target",
            work=tmp_path / "work",
            disk=SystemDisk(),
            made_at_ms=5,
            program="0.1.0",
            progress=lambda index, last: None,
        )
    assert not (tmp_path / "target").exists()
