"""Reading and changing the versions of one key; shared by commands and queries.

A version's table id is its version_id read as a number: log index and position. Ids grow
with time, so within a key they run in step with the version numbers.
"""

import re
import sqlite3
from dataclasses import dataclass
from typing import Any

import msgspec

from osscore.errors import CorruptCatalog, NoSuchBucket, NoSuchKey, NoSuchVersion
from osscore.model import ObjectAttributes, VersionInfo
from raftmeta.catalog import manifests, removed, usage
from raftmeta.catalog.transaction import Transaction

COLUMNS = "key, number, id, is_marker, is_latest, created_at_ms, attributes, manifest"
POSITION_BITS = 16
_VERSION_ID = re.compile(r"[0-7][0-9a-f]{15}")
_decode_attributes = msgspec.json.Decoder(ObjectAttributes).decode
_encode_attributes = msgspec.json.Encoder().encode

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class NewVersion:
    """What a handler decided a version shall be; numbers and times are given on insertion."""

    attributes: ObjectAttributes
    manifest: int = 0
    inline: bytes | None = None
    is_marker: bool = False


def find_bucket(db: sqlite3.Connection, name: str) -> int:
    """The bucket's number. Refuses NoSuchBucket."""
    found = db.execute("SELECT bucket FROM buckets WHERE name = ? AND live = 1", (name,)).fetchone()
    if found is None:
        raise NoSuchBucket(f"There is no bucket {name[:80]!r}.")
    return int(found[0])


def newest(db: sqlite3.Connection, bucket: int, key: str) -> Row | None:
    """The newest version or marker of a key, as COLUMNS."""
    row: Row | None = db.execute(
        f"SELECT {COLUMNS} FROM versions WHERE bucket = ? AND key = ? ORDER BY number DESC LIMIT 1",
        (bucket, key),
    ).fetchone()
    return row


def exact(db: sqlite3.Connection, bucket: int, key: str, *, number: int, version_id: str) -> Row:
    """One version by `version_id`, or by `number` if that is empty, as COLUMNS.

    Refuses NoSuchKey when the key has no version at all, else NoSuchVersion.
    """
    where, value = (
        ("id = ?", parse_version_id(version_id)) if version_id else ("number = ?", number)
    )
    row: Row | None = db.execute(
        f"SELECT {COLUMNS} FROM versions WHERE bucket = ? AND key = ? AND {where}",
        (bucket, key, value),
    ).fetchone()
    if row is not None:
        return row
    if newest(db, bucket, key) is None:
        raise NoSuchKey(f"There is no object {key[:80]!r}.")
    raise NoSuchVersion()


def version_info(bucket_name: str, row: Row) -> VersionInfo:
    """A row of COLUMNS as its struct."""
    key, number, id_, is_marker, is_latest, created_at_ms, attributes, manifest = row
    return VersionInfo(
        bucket=bucket_name,
        key=key,
        number=number,
        version_id=f"{id_:016x}",
        is_marker=is_marker == 1,
        is_latest=is_latest == 1,
        created_at_ms=created_at_ms,
        attributes=_decode_attributes(attributes),
        manifest=manifest,
    )


def number_of(row: Row) -> int:
    """The version number in a row of COLUMNS."""
    return int(row[1])


def is_marker(row: Row) -> bool:
    """Whether a row of COLUMNS is a delete marker."""
    return bool(row[3])


def created_at_ms(row: Row) -> int:
    """When a row of COLUMNS was made, by catalog time."""
    return int(row[5])


def parse_version_id(text: str) -> int:
    """The table id of a version_id; 0, which no version has, for anything else."""
    return int(text, 16) if _VERSION_ID.fullmatch(text) else 0


def insert(tx: Transaction, bucket: int, key: str, new: NewVersion) -> tuple[int, int]:
    """Put a version on top of a key; answers (number, id). Takes over `new.manifest`.

    Refuses QuotaExceeded.
    """
    number = _take_number(tx, bucket, key)
    id_ = tx.index << POSITION_BITS | tx.position
    tx.db.execute(
        "UPDATE versions SET is_latest = 0, superseded_at_ms = ? WHERE bucket = ? AND key = ?"
        " AND number = (SELECT MAX(number) FROM versions WHERE bucket = ? AND key = ?)",
        (tx.time_ms, bucket, key, bucket, key),
    )
    tx.db.execute(
        "INSERT INTO versions (id, bucket, key, number, is_marker, is_latest, created_at_ms,"
        " size_bytes, manifest, sha256, attributes) VALUES (?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?)",
        (
            id_,
            bucket,
            key,
            number,
            int(new.is_marker),
            tx.time_ms,
            new.attributes.size_bytes,
            new.manifest,
            new.attributes.sha256 or None,
            _encode_attributes(new.attributes).decode(),
        ),
    )
    if new.inline is not None:
        tx.db.execute("INSERT INTO inline_bodies (version, data) VALUES (?, ?)", (id_, new.inline))
        tx.meta.add("total_inline_bytes", len(new.inline))
    tx.meta.add("total_markers" if new.is_marker else "total_versions", 1)
    tx.meta.add("total_logical_bytes", new.attributes.size_bytes)
    if not new.is_marker:
        usage.add(tx, bucket, new.attributes.size_bytes)
    return number, id_


def remove(tx: Transaction, bucket: int, row: Row) -> int:
    """Remove one version (a row of COLUMNS) for good; the newest left becomes the latest.

    Answers how many rows that wrote at most.
    """
    key, number, id_, is_marker, _, made_at_ms, attributes, manifest = row
    tx.db.execute("DELETE FROM versions WHERE id = ?", (id_,))
    removed.note(
        tx, bucket, key, number=number, is_marker=bool(is_marker), created_at_ms=made_at_ms
    )
    tx.meta.add("total_markers" if is_marker else "total_versions", -1)
    size_bytes = _decode_attributes(attributes).size_bytes
    tx.meta.add("total_logical_bytes", -size_bytes)
    if not is_marker:
        usage.give_back(tx, bucket, size_bytes)
    segment_count = 0
    if manifest:
        segment_count = manifests.release(tx, manifest)
    elif not is_marker:
        inline = inline_body(tx.db, id_)
        tx.db.execute("DELETE FROM inline_bodies WHERE version = ?", (id_,))
        tx.meta.add("total_inline_bytes", -len(inline))
    # Always, whatever `row` says: it may have become the latest since it was read.
    tx.db.execute(
        "UPDATE versions SET is_latest = 1, superseded_at_ms = NULL WHERE bucket = ? AND key = ?"
        " AND number = (SELECT MAX(number) FROM versions WHERE bucket = ? AND key = ?)",
        (bucket, key, bucket, key),
    )
    _note_lowest(tx, bucket, key)
    # The version, its body or manifest and a grave, the latest, a marker left bare; a segment
    # and its stripe.
    return 5 + removed.ROWS_PER_REMOVAL + 2 * segment_count


def _note_lowest(tx: Transaction, bucket: int, key: str) -> None:
    """Whether what is now the key's lowest row is a delete marker: nothing is behind that.

    Only a removal can make it so: the first row of a key is a version.
    """
    lowest = tx.db.execute(
        "SELECT is_marker FROM versions WHERE bucket = ? AND key = ? ORDER BY number LIMIT 1",
        (bucket, key),
    ).fetchone()
    if lowest is not None and lowest[0]:
        sql = "INSERT OR IGNORE INTO bare_markers (bucket, key) VALUES (?, ?)"
    else:
        sql = "DELETE FROM bare_markers WHERE bucket = ? AND key = ?"
    tx.db.execute(sql, (bucket, key))


def inline_body(db: sqlite3.Connection, id_: int) -> bytes:
    """The bytes of an inline version."""
    found = db.execute("SELECT data FROM inline_bodies WHERE version = ?", (id_,)).fetchone()
    if found is None:
        raise CorruptCatalog(f"Version {id_:016x} has neither manifest nor inline body.")
    return bytes(found[0])


def _take_number(tx: Transaction, bucket: int, key: str) -> int:
    """The key's next version number; it outlives its versions, so none is used twice."""
    found = tx.db.execute(
        "SELECT next_number FROM keys WHERE bucket = ? AND key = ?", (bucket, key)
    ).fetchone()
    number = int(found[0]) if found else 1
    tx.db.execute(
        "INSERT OR REPLACE INTO keys (bucket, key, next_number) VALUES (?, ?, ?)",
        (bucket, key, number + 1),
    )
    return number
