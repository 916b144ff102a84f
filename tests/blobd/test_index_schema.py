"""The index's tables on disk, and that they are made whole or not at all."""

import hashlib
import sqlite3
from pathlib import Path

import pytest

from blobd.index import LAYOUT_VERSION, Index, IndexUnusable

GOLDEN = "d29f638ad3dff9febcaec9e6ccaea7f51ed7e281144d399e7e5c0dd742ba1662"


def objects(path: Path) -> list[tuple[str, str, str, str]]:
    db = sqlite3.connect(path)
    try:
        sql = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY rowid"
        return db.execute(sql).fetchall()
    finally:
        db.close()


def test_a_new_index_has_the_known_tables(tmp_path: Path) -> None:
    """If you mean to change them: another LAYOUT_VERSION, so that old files are rebuilt."""
    path = tmp_path / "index.sqlite"
    Index.open(path).close()
    assert hashlib.sha256(repr(objects(path)).encode()).hexdigest() == GOLDEN
    db = sqlite3.connect(path)
    found = [
        db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "journal_mode")
    ]
    assert found == [LAYOUT_VERSION, "wal"]
    db.close()


def test_tables_are_made_all_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "index.sqlite"
    monkeypatch.setattr("blobd.index._SCHEMA", "CREATE TABLE shards (key BLOB); CREATE TABLE x;")
    with pytest.raises(IndexUnusable):
        Index.open(path)
    assert objects(path) == []
    monkeypatch.undo()
    Index.open(path).close()
