"""What a scan asks of the catalog beside stripes: the bodies that it keeps itself."""

import msgspec

from osscore.model import VersionInfo
from raftmeta.queries import Answer, Query


class ListInline(Query, frozen=True, kw_only=True):
    """Versions whose bytes the catalog keeps itself, with them, by id (as a number) behind
    `after_id`, at most `limit` (<= 256). Answers InlineListed. `bucket` not empty: only those of
    objects there with `prefix`. Refused NoSuchBucket."""

    after_id: int = 0
    limit: int = 100
    bucket: str = ""
    prefix: str = ""


class InlineVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version and its bytes as they are kept; `data` None: they are missing."""

    version: VersionInfo
    data: bytes | None


class InlineListed(Answer, frozen=True, kw_only=True):
    """`next_id` 0: that was all; else the next page's `after_id`, which may lie behind versions
    that were only looked at."""

    versions: tuple[InlineVersion, ...]
    next_id: int = 0
