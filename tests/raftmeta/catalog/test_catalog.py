"""The file: made, crashed, reopened, checkpointed, copied, read while written."""

import errno
import shutil
import sqlite3
import stat
import threading
from pathlib import Path

import msgspec
import pytest

from osscore.errors import CorruptCatalog
from ossd.disk import SystemFile
from raftmeta.catalog import schema
from raftmeta.catalog.catalog import Catalog
from raftmeta.catalog.soft import SoftState
from raftmeta.commands import DeleteVersion
from raftmeta.entries import Batch
from raftmeta.queries import (
    CatalogCounted,
    CountCatalog,
    FindObject,
    Found,
    ListObjects,
    ObjectsListed,
)
from tests.raftmeta.catalog.harness import Driver


def test_the_file_is_private_and_gives_freed_pages_back(driver: Driver) -> None:
    for file in driver.path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    db = sqlite3.connect(driver.path)
    assert db.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()


def test_a_checkpoint_returns_freed_pages(driver: Driver) -> None:
    for number in range(200):
        driver.put_inline(f"k{number}", bytes(4000))
    driver.catalog.checkpoint()
    full_bytes = driver.path.stat().st_size
    for number in range(200):
        driver.run(DeleteVersion(bucket="bucket", key=f"k{number}", number=1))
    driver.catalog.checkpoint()
    assert driver.path.stat().st_size < full_bytes / 2


def test_a_crash_between_batches_loses_nothing_that_was_applied(
    driver: Driver, tmp_path: Path
) -> None:
    driver.put("k", driver.draft(1))
    before = driver.catalog.fingerprint()
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for file in driver.path.parent.glob("catalog.sqlite*"):
        shutil.copy(file, crashed / file.name)
    reopened = Catalog(crashed / "catalog.sqlite")
    assert (reopened.applied_index, reopened.fingerprint()) == (driver.index, before)
    reopened.close()


def test_a_lost_tail_is_applied_again_to_the_same_state(driver: Driver, tmp_path: Path) -> None:
    """Power loss may take the end of the WAL: the Raft log repeats it."""
    older = tmp_path / "older.sqlite"
    applied = driver.catalog.copy_to(older)
    driver.put("k", driver.draft(1))
    driver.put_inline("small", b"x")
    reopened = Catalog(older)
    for index in range(applied + 1, driver.index + 1):
        reopened.apply(index, driver.log[index - 1])
    assert reopened.fingerprint() == driver.catalog.fingerprint()
    reopened.close()


def test_a_checkpoint_makes_the_main_file_complete(driver: Driver, tmp_path: Path) -> None:
    driver.put_inline("k", b"x")
    assert driver.catalog.checkpoint() == driver.index
    alone = tmp_path / "alone.sqlite"
    shutil.copy(driver.path, alone)
    assert schema.verify(alone) == driver.index


def test_a_checkpoint_that_cannot_be_synced_promises_nothing(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SAFETY rule 20: the log may be cut only behind what is on the disk for sure."""

    def fails(_: object) -> None:
        raise OSError(errno.EIO, "no sync")

    driver.put_inline("k", b"x")
    monkeypatch.setattr(SystemFile, "sync", fails)
    with pytest.raises(OSError, match="no sync"):
        driver.catalog.checkpoint()


def test_a_pinned_checkpoint_promises_only_what_is_durable(driver: Driver) -> None:
    driver.put_inline("a", b"x")
    assert driver.catalog.checkpoint() == (durable := driver.index)
    pin = schema.open_reader(driver.path)
    pin.execute("BEGIN")
    pin.execute("SELECT * FROM meta").fetchall()
    driver.put_inline("b", b"x")
    assert driver.catalog.checkpoint() == durable
    pin.close()
    assert driver.catalog.checkpoint() == driver.index


def test_a_copy_is_consistent_private_and_takes_over(driver: Driver, tmp_path: Path) -> None:
    driver.put("k", driver.draft(1))
    path = tmp_path / "copy.sqlite"
    assert driver.catalog.copy_to(path) == driver.index
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert schema.verify(path) == driver.index
    copy = Catalog(path)
    assert copy.fingerprint() == driver.catalog.fingerprint()
    blob = msgspec.msgpack.encode(Batch(time_ms=driver.now_ms, entries=()))
    for catalog in (copy, driver.catalog):
        catalog.apply(driver.index + 1, blob)
    assert copy.fingerprint() == driver.catalog.fingerprint()
    copy.close()
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    db.close()
    with pytest.raises(FileExistsError):
        driver.catalog.copy_to(path)


def test_a_damaged_copy_is_found_out(driver: Driver, tmp_path: Path) -> None:
    for number in range(100):
        driver.put_inline(f"k{number}", bytes(3000))
    path = tmp_path / "copy.sqlite"
    driver.catalog.copy_to(path)
    data = bytearray(path.read_bytes())
    data[8192:12288] = bytes(4096)
    path.write_bytes(data)
    with pytest.raises(CorruptCatalog):
        schema.verify(path)
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(CorruptCatalog):
        schema.verify(path)


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"\xc1garbage",
        msgspec.msgpack.encode({"format": 2, "time_ms": 1, "entries": []}),
        msgspec.msgpack.encode({"time_ms": 1, "entries": [[1, 1, {"type": "Unheard"}, 0]]}),
    ],
)
def test_an_entry_that_cannot_be_read_stops_the_replica(driver: Driver, blob: bytes) -> None:
    before = driver.catalog.fingerprint()
    with pytest.raises(CorruptCatalog):
        driver.catalog.apply(driver.index + 1, blob)
    assert driver.catalog.fingerprint() == before
    good = msgspec.msgpack.encode(Batch(time_ms=driver.now_ms, entries=()))
    with pytest.raises(CorruptCatalog):
        driver.catalog.apply(driver.index + 1, good)


def test_an_index_is_applied_once(driver: Driver) -> None:
    with pytest.raises(CorruptCatalog):
        driver.catalog.apply(driver.index, driver.log[-1])


def test_gaps_in_the_index_are_fine(driver: Driver) -> None:
    driver.index += 5
    driver.put_inline("k", b"x")
    assert driver.catalog.applied_index == driver.index


def test_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(CorruptCatalog, match="schema 99"):
        Catalog(path)


def test_all_queries_of_a_request_see_one_state_while_entries_are_applied(driver: Driver) -> None:
    stop = threading.Event()
    torn: list[object] = []

    def read() -> None:
        while not stop.is_set():
            head, answers = driver.catalog.answer_with_head(
                [CountCatalog(), ListObjects(bucket="bucket"), CountCatalog()], soft=SoftState()
            )
            first, listed, last = answers
            assert isinstance(first, CatalogCounted) and isinstance(listed, ObjectsListed)
            if first != last or first.versions != len(listed.objects):
                torn.append((head, first, last))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(150):
        driver.put_inline(f"k{number}", b"x")
    stop.set()
    for reader in readers:
        reader.join()
    assert torn == []
    head, _ = driver.catalog.answer_with_head([CountCatalog()], soft=SoftState())
    assert head == driver.catalog.head and head.applied_index == driver.index


def test_a_reader_cannot_write(driver: Driver) -> None:
    db = schema.open_reader(driver.path)
    with pytest.raises(sqlite3.OperationalError):
        db.execute("DELETE FROM versions")
    db.close()


def test_people_can_read_current_objects_by_sql(driver: Driver) -> None:
    driver.put_inline("k", b"abc")
    db = sqlite3.connect(driver.path)
    row = db.execute("SELECT bucket, key, number, version_id, size_bytes FROM current_objects")
    found = driver.ask(FindObject(bucket="bucket", key="k"))
    assert isinstance(found, Found)
    assert row.fetchall() == [("bucket", "k", 1, found.version.version_id, 3)]
    db.close()


def test_replicas_that_applied_different_entries_differ(driver: Driver, tmp_path: Path) -> None:
    path = tmp_path / "twin.sqlite"
    driver.catalog.copy_to(path)
    twin = Catalog(path)
    driver.put_inline("k", b"x")
    assert twin.fingerprint() != driver.catalog.fingerprint()
    twin.close()
