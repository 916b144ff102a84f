"""The schema on disk: exactly that of docs/formats/catalog.md, reached in whole steps."""

import hashlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from raftmeta.catalog import schema, steps
from raftmeta.catalog.catalog import Catalog

if TYPE_CHECKING:
    from sqlite_utils import Database

GOLDEN = "761b240e7668d6b71113fcd45c71a31e02bf72a71c9687858ec34b2f3bd02dd3"
PRAGMAS = {"page_size": 4096, "auto_vacuum": 2, "journal_mode": "wal", "encoding": "UTF-8"}


def objects(db: sqlite3.Connection) -> list[tuple[str, str, str, str]]:
    return db.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY rowid"
    ).fetchall()


def version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def test_a_new_file_has_the_schema_of_the_format_description(tmp_path: Path) -> None:
    """If you mean to change it: a step in STEPS, docs/formats/catalog.md."""
    db = schema.open_writer(tmp_path / "catalog.sqlite")
    found = {name: db.execute(f"PRAGMA {name}").fetchone()[0] for name in PRAGMAS}
    assert (found, version(db)) == (PRAGMAS, steps.SCHEMA_VERSION)
    assert len(steps.STEPS) == steps.SCHEMA_VERSION
    assert hashlib.sha256(repr(objects(db)).encode()).hexdigest() == GOLDEN


def add_note(store: "Database") -> None:
    store["sessions"].add_column("note", str)
    store["sessions"].update(7, {"note": "kept"})


def add_note_and_fail(store: "Database") -> None:
    add_note(store)
    raise ZeroDivisionError


def file_with_a_session(path: Path) -> sqlite3.Connection:
    db = schema.open_writer(path)
    db.execute("INSERT INTO sessions VALUES (7, 1, 0, 0)")
    return db


def test_a_step_takes_an_older_file_along_with_its_rows(tmp_path: Path) -> None:
    db = file_with_a_session(tmp_path / "catalog.sqlite")
    schema.migrate(db, (*steps.STEPS, add_note))
    assert version(db) == steps.SCHEMA_VERSION + 1
    assert db.execute("SELECT * FROM sessions").fetchall() == [(7, 1, 0, 0, "kept")]
    schema.migrate(db, (*steps.STEPS, add_note))  # taken already


def test_a_step_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    db = file_with_a_session(tmp_path / "catalog.sqlite")
    before = objects(db)
    with pytest.raises(ZeroDivisionError):
        schema.migrate(db, (*steps.STEPS, add_note_and_fail))
    assert (objects(db), version(db), db.in_transaction) == (before, steps.SCHEMA_VERSION, False)
    assert db.execute("SELECT * FROM sessions").fetchall() == [(7, 1, 0, 0)]


@pytest.mark.parametrize("failing_at", range(0, 35, 5))
def test_tables_are_made_all_or_none(tmp_path: Path, failing_at: int) -> None:
    path = tmp_path / "catalog.sqlite"
    db = schema._connect(path)
    seen = 0

    def deny(action: int, *_: str | None) -> int:
        nonlocal seen
        if action in (sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_CREATE_INDEX):
            seen += 1
        return sqlite3.SQLITE_DENY if seen > failing_at else sqlite3.SQLITE_OK

    db.set_authorizer(deny)
    with pytest.raises(sqlite3.DatabaseError, match=r"not authorized|prohibited"):
        schema.migrate(db, steps.STEPS)
    db.close()
    db = schema._connect(path)
    assert (objects(db), version(db)) == ([], 0)
    schema.open_writer(path)


def test_a_file_that_is_up_to_date_is_opened_without_sqlite_utils(tmp_path: Path) -> None:
    Catalog(tmp_path / "catalog.sqlite").close()
    assert loaded_by_opening(tmp_path / "catalog.sqlite") == {"sqlite3"}


def test_numpy_is_not_taken_along_when_tables_are_made(tmp_path: Path) -> None:
    assert loaded_by_opening(tmp_path / "catalog.sqlite") == {"sqlite3", "sqlite_utils"}


def loaded_by_opening(path: Path) -> set[str]:
    """Which of three modules a process of its own has loaded after opening that catalog."""
    code = (
        "import sys; from pathlib import Path\n"
        "from raftmeta.catalog.catalog import Catalog\n"
        "Catalog(Path(sys.argv[1])).close()\n"
        "print(*{'numpy', 'sqlite3', 'sqlite_utils'} & set(sys.modules))"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stdout.split())
