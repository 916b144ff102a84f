"""What of a bucket is due, looked up before anything is proposed."""

from raftmeta.catalog import lifecycle
from raftmeta.catalog.reading import Reading
from raftmeta.catalog.versions import find_bucket
from raftmeta.expiring import ExpiringFound, FindExpiring

_KEYS_MAX = 1000


def find_expiring(reading: Reading, query: FindExpiring) -> ExpiringFound:
    """See FindExpiring. Refuses NoSuchBucket."""
    db = reading.db
    bucket = find_bucket(db, query.bucket)
    asked = lifecycle.settings_of(db, bucket)
    at_ms = max(query.at_ms, reading.number("catalog_time_ms"))
    limit = max(1, min(query.limit, _KEYS_MAX))
    return ExpiringFound(
        keys=tuple(lifecycle.expiring(db, bucket, asked, at_ms, limit)),
        has_more=bool(
            lifecycle.superseded(db, bucket, asked, at_ms, 1)
            or lifecycle.bare_marker(db, bucket, asked)
            or lifecycle.mistimed_uploads(db, bucket, asked, 1)
        ),
    )
