"""A logical digest of a catalog, to compare replicas that applied the same entries."""

import sqlite3

import msgspec

from osscore.digests import blake3_256


def fingerprint(db: sqlite3.Connection) -> bytes:
    """BLAKE3 over every row of every table, tables by name, rows by primary key.

    Reads everything: for tests, torture and verification, not for production paths.
    """
    encode = msgspec.msgpack.Encoder().encode
    digests = []
    names = db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    for (name,) in names.fetchall():
        digest = b""
        for row in db.execute(f"SELECT * FROM {name} ORDER BY {_primary_key(db, name)}"):
            digest = blake3_256(digest + encode(row))
        digests.append((name, digest))
    return blake3_256(encode(digests))


def _primary_key(db: sqlite3.Connection, table: str) -> str:
    columns = db.execute(f"PRAGMA table_info({table})").fetchall()
    keyed = sorted((position, name) for _, name, _, _, _, position in columns if position)
    return ", ".join(name for _, name in keyed)
