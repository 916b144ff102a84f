"""Making an object what it was: a new version or a marker on top, never less than before."""

from osscore.model import ObjectAttributes
from raftmeta.catalog import manifests, past, versions
from raftmeta.catalog.transaction import Transaction
from raftmeta.catalog.versions import NewVersion, Row
from raftmeta.timetravel import ObjectRestored, RestoreObject, RestoreOutcome


def restore_object(tx: Transaction, command: RestoreObject) -> ObjectRestored:
    """Decide by what the key is now, not by what it was when somebody looked (see
    RestoreObject). Refuses NoSuchBucket."""
    bucket = versions.find_bucket(tx.db, command.bucket)
    change = past.change_to(
        tx.db, bucket, command.key, at_ms=command.at_ms, began_ms=command.began_ms
    )
    new = _new_version(tx, bucket, command, change)
    if new is not None:
        versions.insert(tx, bucket, command.key, new)
    size_bytes = 0
    if change.outcome is RestoreOutcome.RESTORED and change.wanted is not None:
        size_bytes = versions.version_info("", change.wanted).attributes.size_bytes
    return ObjectRestored(outcome=change.outcome, number=change.number, size_bytes=size_bytes)


def _new_version(
    tx: Transaction, bucket: int, command: RestoreObject, change: past.Change
) -> NewVersion | None:
    current = versions.newest(tx.db, bucket, command.key)
    is_done = current is not None and versions.created_at_ms(current) > command.began_ms
    if is_done or current is None:
        return None  # what is that new and as wanted was made by a step before
    if change.outcome is RestoreOutcome.HIDDEN:
        return NewVersion(ObjectAttributes(size_bytes=0), is_marker=True)
    if change.outcome is RestoreOutcome.RESTORED and change.wanted is not None:
        return _shared(tx, change.wanted)
    return None


def _shared(tx: Transaction, row: Row) -> NewVersion:
    """The same bytes under the same headers."""
    source = versions.version_info("", row)
    if source.manifest:
        manifests.share(tx, source.manifest)
        return NewVersion(source.attributes, manifest=source.manifest)
    inline = versions.inline_body(tx.db, versions.parse_version_id(source.version_id))
    return NewVersion(source.attributes, inline=inline)
