"""The question of the leader's lifecycle: what of a bucket is due?"""

from raftmeta.queries import Answer, Query


class FindExpiring(Query, frozen=True, kw_only=True):
    """What a bucket asks to have removed by `at_ms`, or by catalog time if that is later.

    Answers ExpiringFound, with at most `limit` (<= 1,000) keys. Refused NoSuchBucket.
    """

    bucket: str
    at_ms: int
    limit: int = 100


class ExpiringFound(Answer, frozen=True, kw_only=True):
    """`keys` of objects that expire, the oldest first; `has_more`: an ExpireVersions would find
    something."""

    keys: tuple[str, ...]
    has_more: bool = False
