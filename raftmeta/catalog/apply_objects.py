"""Making, hiding, revealing and removing versions."""

from osscore.errors import (
    CommandTooLarge,
    ContentMismatch,
    CorruptCatalog,
    EntityTooLarge,
    InvalidArgument,
    NoSuchBucket,
    NoSuchKey,
    NoSuchVersion,
    PreconditionFailed,
)
from osscore.model import INLINE_BYTES_MAX, ObjectAttributes
from osscore.names import ObjectKey
from raftmeta.catalog import finished, manifests, uploads, versions
from raftmeta.catalog.stripes import name_stripe
from raftmeta.catalog.transaction import Transaction
from raftmeta.catalog.versions import NewVersion, Row
from raftmeta.commands import (
    Conditions,
    CopyBody,
    DeleteObject,
    DeleteVersion,
    InlineBody,
    ObjectDeleted,
    ObjectPut,
    PutObject,
    StripesBody,
    Undelete,
    UploadBody,
)

_STRIPES_MAX = 2
MARKERS_AT_ONCE = 300
"""Most delete markers one Undelete removes (SAFETY rule 18)."""


def put_object(tx: Transaction, command: PutObject) -> ObjectPut:
    """Make a new current version (see PutObject for what is refused)."""
    bucket = versions.find_bucket(tx.db, command.bucket)
    ObjectKey.parse(command.key)
    if not command.finishes:
        return _insert(tx, bucket, command)
    before = finished.find_same(tx, command.finishes, bucket, command.key)
    if before is not None:
        return before
    row = finished.require_open(tx, command.finishes, bucket, command.key)
    put = _insert(tx, bucket, command)
    left = uploads.find(tx, row.upload)
    if left is not None:  # the bytes came another way
        uploads.end(tx, left)
    finished.remember(tx, row, size_bytes=command.attributes.size_bytes, put=put)
    return put


def _insert(tx: Transaction, bucket: int, command: PutObject) -> ObjectPut:
    _check_conditions(command.conditions, versions.newest(tx.db, bucket, command.key))
    new = _take_body(tx, bucket, command)
    number, id_ = versions.insert(tx, bucket, command.key, new)
    return ObjectPut(number=number, version_id=f"{id_:016x}", created_at_ms=tx.time_ms)


def delete_object(tx: Transaction, command: DeleteObject) -> ObjectDeleted:
    """Put a delete marker on top."""
    bucket = versions.find_bucket(tx.db, command.bucket)
    current = versions.newest(tx.db, bucket, command.key)
    if current is None:
        raise NoSuchKey(f"There is no object {command.key[:80]!r}.")
    _check_conditions(command.conditions, current)
    marker = NewVersion(ObjectAttributes(size_bytes=0), is_marker=True)
    number, id_ = versions.insert(tx, bucket, command.key, marker)
    return ObjectDeleted(number=number, version_id=f"{id_:016x}", is_marker=True)


def delete_version(tx: Transaction, command: DeleteVersion) -> ObjectDeleted:
    """Remove one version or marker for good."""
    bucket = versions.find_bucket(tx.db, command.bucket)
    row = versions.exact(
        tx.db, bucket, command.key, number=command.number, version_id=command.version_id
    )
    versions.remove(tx, bucket, row)
    return _deleted(row)


def undelete(tx: Transaction, command: Undelete) -> ObjectDeleted:
    """Remove the markers on top, a bounded number (see Undelete). Refuses NoSuchKey when nothing
    would be revealed."""
    bucket = versions.find_bucket(tx.db, command.bucket)
    revealed = tx.db.execute(
        f"SELECT {versions.COLUMNS} FROM versions WHERE bucket = ? AND key = ?"
        " AND is_marker = 0 ORDER BY number DESC LIMIT 1",
        (bucket, command.key),
    ).fetchone()
    if revealed is None:
        raise NoSuchKey(f"There is no version of {command.key[:80]!r} to reveal.")
    for row in _markers_to_remove(tx, bucket, command, above=versions.number_of(revealed)):
        versions.remove(tx, bucket, row)
    current = versions.newest(tx.db, bucket, command.key)
    if current is None:
        raise CorruptCatalog(f"Undelete of {command.key[:80]!r} left no version.")
    return _deleted(current)


def _markers_to_remove(tx: Transaction, bucket: int, command: Undelete, *, above: int) -> list[Row]:
    """The newest markers over number `above`, none unless they are as young as is asked for."""
    rows = (
        f"SELECT {versions.COLUMNS} FROM versions WHERE bucket = ? AND key = ? AND number > ?"
        " ORDER BY number {order} LIMIT ?"
    )
    lowest = tx.db.execute(rows.format(order="ASC"), (bucket, command.key, above, 1)).fetchone()
    if lowest is None or versions.created_at_ms(lowest) < command.since_ms:
        return []
    limit = min(command.markers_max or MARKERS_AT_ONCE, MARKERS_AT_ONCE)
    found = tx.db.execute(
        rows.format(order="DESC"), (bucket, command.key, above, max(1, limit))
    ).fetchall()
    is_later = command.until_ms and versions.created_at_ms(found[0]) > command.until_ms
    return [] if is_later else found


def _deleted(row: Row) -> ObjectDeleted:
    info = versions.version_info("", row)
    return ObjectDeleted(number=info.number, version_id=info.version_id, is_marker=info.is_marker)


def _check_conditions(conditions: Conditions, current: Row | None) -> None:
    if not conditions.if_match and not conditions.if_none_match:
        return
    info = versions.version_info("", current) if current else None
    etag = info.etag if info and not info.is_marker else None
    if conditions.if_match and not _matches(conditions.if_match, etag):
        raise PreconditionFailed()
    if conditions.if_none_match and _matches(conditions.if_none_match, etag):
        raise PreconditionFailed()


def _matches(wanted: tuple[str, ...], etag: str | None) -> bool:
    return etag is not None and ("*" in wanted or etag in wanted)


def _take_body(tx: Transaction, bucket: int, command: PutObject) -> NewVersion:
    """Turn the body into references the version will own. Refuses ContentMismatch."""
    body, attributes = command.body, command.attributes
    match body:
        case InlineBody():
            new = NewVersion(attributes, inline=body.data)
            size_bytes = len(body.data)
            if size_bytes > INLINE_BYTES_MAX:
                raise EntityTooLarge(f"An inline body has at most {INLINE_BYTES_MAX} bytes.")
        case StripesBody():
            manifest, size_bytes = _name_stripes(tx, body)
            new = NewVersion(attributes, manifest=manifest)
        case UploadBody():
            manifest, size_bytes = uploads.hand_over(tx, body.upload, bucket, command.key)
            new = NewVersion(attributes, manifest=manifest)
        case CopyBody():
            new, size_bytes = _share_source(tx, body, attributes)
    if size_bytes != attributes.size_bytes:
        raise ContentMismatch(
            f"The body has {size_bytes} bytes, the request promises {attributes.size_bytes}."
        )
    return new


def _name_stripes(tx: Transaction, body: StripesBody) -> tuple[int, int]:
    if not body.stripes:
        raise InvalidArgument("A body of stripes has at least one.")
    if len(body.stripes) > _STRIPES_MAX:
        raise CommandTooLarge(f"A body of over {_STRIPES_MAX} stripes is staged.")
    pieces = [(name_stripe(tx, draft), draft.plain_bytes) for draft in body.stripes]
    manifest = manifests.create(tx)
    return manifest, manifests.append(tx, manifest, start=0, pieces=pieces)


def _share_source(
    tx: Transaction, body: CopyBody, attributes: ObjectAttributes
) -> tuple[NewVersion, int]:
    try:
        source_bucket = versions.find_bucket(tx.db, body.bucket)
        row = versions.exact(tx.db, source_bucket, body.key, number=body.number, version_id="")
    except (NoSuchBucket, NoSuchKey) as error:
        raise NoSuchVersion("The source of the copy does not exist.") from error
    source = versions.version_info(body.bucket, row)
    if source.is_marker:
        raise NoSuchVersion("The source of the copy is a delete marker.")
    size_bytes = source.attributes.size_bytes
    if source.manifest:
        manifests.share(tx, source.manifest)
        return NewVersion(attributes, manifest=source.manifest), size_bytes
    inline = versions.inline_body(tx.db, versions.parse_version_id(source.version_id))
    return NewVersion(attributes, inline=inline), size_bytes
