"""A catalog of the first schema, in the midst of its work, goes on the same on every replica."""

import shutil
import sqlite3
from pathlib import Path

from osscore.model import ObjectAttributes
from raftmeta.catalog import schema
from raftmeta.commands import (
    BeginUpload,
    Collected,
    DeleteObject,
    DeleteVersion,
    Done,
    HoldManifest,
    ObjectPut,
    PutObject,
    Stage,
    Staged,
    UploadBody,
)
from raftmeta.lifecycle import Expired, ExpireVersions, SetLifecycle
from raftmeta.queries import FindObject, FindUpload, Found, UploadFound
from tests.raftmeta.catalog.harness import GRACE_MS, MINUTE_MS, Driver, refusal

LATER_TABLES = {
    "audit",
    "bare_markers",
    "censuses",
    "ended_families",
    "finished_uploads",
    "members",
    "reencode_jobs",
    "reencode_tasks",
    "rejoins",
    "removed_versions",
    "revoked_tokens",
    "signing_keys",
    "tasks",
}


def tables_of(db: sqlite3.Connection, file: str) -> set[str]:
    rows = db.execute(f"SELECT name FROM {file}.sqlite_master WHERE type = 'table'")
    return {name for (name,) in rows}


def as_of_the_first_schema(source: Path, target: Path) -> None:
    """The rows of a present file in one that has taken the first step only."""
    db = schema._connect(target)
    db.executescript(schema._BEFORE_TABLES)
    schema.migrate(db, schema.STEPS[:1])
    db.execute("ATTACH ? AS present", (str(source),))
    tables = [
        name for (name,) in db.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")
    ]
    for table in sorted(tables):
        columns = ", ".join(row[1] for row in db.execute(f"PRAGMA main.table_info({table})"))
        db.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM present.{table}")
    later = {
        n for (n,) in db.execute("SELECT name FROM present.sqlite_master WHERE type = 'table'")
    }
    assert later - set(tables) == LATER_TABLES
    db.execute("DETACH present")
    db.close()


def at_work(driver: Driver) -> None:
    """An object, one that was deleted, a read that holds it, and uploads under way."""
    driver.form()
    driver.put("held", driver.draft(1), driver.draft(2))
    found = driver.ask(FindObject(bucket="bucket", key="held"))
    assert isinstance(found, Found)
    hold = HoldManifest(upload=b"h" * 16, manifest=found.version.manifest, ttl_ms=GRACE_MS)
    assert driver.run(hold) == Done()
    for letter in "vvdv":  # one that is written over, deleted, and written again
        if letter == "v":
            driver.put_inline("worn", b"x")
        else:
            driver.run(DeleteObject(bucket="bucket", key="worn"))
    driver.put_inline("bare", b"x")
    driver.run(DeleteObject(bucket="bucket", key="bare"))
    driver.run(DeleteVersion(bucket="bucket", key="bare", number=1))
    for name in (b"a", b"b"):
        upload = name * 16
        begin = BeginUpload(upload=upload, bucket="bucket", key=name.decode(), ttl_ms=GRACE_MS)
        assert driver.run(begin) == Done()
        stage = Stage(upload=upload, position=0, append=(driver.draft(3), driver.draft(4)))
        assert isinstance(driver.run(stage), Staged)


def taken_over(path: Path, before: Driver) -> Driver:
    """A replica of what `before` was, opened by this version."""
    replica = Driver(path)
    for name in ("index", "now_ms", "seq", "session", "_stripes"):
        setattr(replica, name, getattr(before, name))
    return replica


def go_on(driver: Driver) -> None:
    """What was under way ends as it would have, and new kinds of commands work."""
    found = driver.ask(FindUpload(upload=b"a" * 16))
    assert isinstance(found, UploadFound)
    assert (found.staged_bytes, found.sealed, found.plan.owner) == (2000, False, "")
    more = Stage(upload=b"a" * 16, position=2, append=(driver.draft(5),))
    assert isinstance(driver.run(more), Staged)
    named = PutObject(
        bucket="bucket",
        key="a",
        attributes=ObjectAttributes(size_bytes=3000),
        body=UploadBody(upload=b"a" * 16),
        finishes=b"a" * 16,
    )
    first = driver.run(named)
    assert isinstance(first, ObjectPut) and driver.run(named) == first
    driver.pass_time(2 * GRACE_MS + MINUTE_MS)
    while driver.collect() != Collected():
        pass
    assert refusal(driver.ask(FindUpload(upload=b"b" * 16))) == "NoSuchUpload"
    driver.run(SetLifecycle(bucket="bucket", expire_noncurrent_after_ms=GRACE_MS))
    gone = driver.run(ExpireVersions(bucket="bucket"))
    assert isinstance(gone, Expired) and (gone.versions, gone.markers) == (2, 2)
    assert driver.catalog.contradictions() == []


def test_replicas_take_the_steps_apart_and_stay_the_same(tmp_path: Path) -> None:
    present = Driver(tmp_path / "present.sqlite")
    at_work(present)
    present.catalog.close()
    as_of_the_first_schema(present.path, tmp_path / "1.sqlite")
    shutil.copy(tmp_path / "1.sqlite", tmp_path / "2.sqlite")
    replicas = [taken_over(tmp_path / f"{number}.sqlite", present) for number in (1, 2)]
    assert all(not replica.catalog.contradictions() for replica in replicas)
    for replica in replicas:
        go_on(replica)
    assert replicas[0].catalog.fingerprint() == replicas[1].catalog.fingerprint()
    for replica in replicas:
        replica.catalog.close()
