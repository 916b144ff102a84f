"""Conditional requests (RFC 9110, section 13): entity tags and dates."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum

from raftmeta.commands import Conditions

GZIP_SUFFIX = "-gzip"
_TAG = re.compile(r'(W/)?"([^"]*)"')
_TAGS_MAX = 100
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Outcome(Enum):
    """What the conditions of a GET or HEAD lead to."""

    PROCEED = 200
    NOT_MODIFIED = 304
    FAILED = 412


@dataclass(frozen=True, slots=True)
class Tags:
    """An If-Match or If-None-Match: `*`, or tags without quotes."""

    is_any: bool
    strong: tuple[str, ...]
    weak: tuple[str, ...]


def parse_tags(header: str | None) -> Tags | None:
    """None if the header is missing. What is no tag matches nothing."""
    if header is None:
        return None
    if header.strip() == "*":
        return Tags(True, (), ())
    found = _TAG.findall(header)[:_TAGS_MAX]
    bare = () if found else tuple(part.strip() for part in header.split(",") if part.strip())
    strong = tuple(tag for weak, tag in found if not weak) + bare
    return Tags(False, strong, tuple(tag for weak, tag in found if weak))


def evaluate(headers: Mapping[str, str], *, etag: str, modified_ms: int) -> Outcome:
    """The precedence of RFC 9110, section 13.2.2, for GET and HEAD.

    `etag` without quotes and without the suffix of an encoding: a cached encoded copy is as
    fresh as the bytes it was made from.
    """
    if not _is_unchanged(headers, etag, modified_ms // 1000):
        return Outcome.FAILED
    if _is_fresh(headers, etag, modified_ms // 1000):
        return Outcome.NOT_MODIFIED
    return Outcome.PROCEED


def _is_unchanged(headers: Mapping[str, str], etag: str, modified_s: int) -> bool:
    """If-Match, else If-Unmodified-Since: whether the object still is what was expected."""
    tags = parse_tags(headers.get("If-Match"))
    if tags is not None:
        return tags.is_any or etag in _plain(tags.strong)
    when_s = parse_date(headers.get("If-Unmodified-Since"))
    return when_s is None or modified_s <= when_s


def _is_fresh(headers: Mapping[str, str], etag: str, modified_s: int) -> bool:
    """If-None-Match, else If-Modified-Since: whether what the client has is current."""
    tags = parse_tags(headers.get("If-None-Match"))
    if tags is not None:
        return tags.is_any or etag in _plain(tags.strong + tags.weak)
    when_s = parse_date(headers.get("If-Modified-Since"))
    return when_s is not None and modified_s <= when_s


def range_applies(header: str | None, *, etag: str, modified_ms: int) -> bool:
    """Whether If-Range lets the Range be honoured: the same strong tag, or the same date."""
    if header is None:
        return True
    if header.lstrip().startswith(('"', "W/")):
        tags = parse_tags(header)
        return tags is not None and etag in tags.strong
    return parse_date(header) == modified_ms // 1000


def write_conditions(headers: Mapping[str, str]) -> Conditions:
    """If-Match and If-None-Match of a PUT or DELETE, judged when the command is applied."""
    match, none_match = (
        parse_tags(headers.get("If-Match")),
        parse_tags(headers.get("If-None-Match")),
    )
    return Conditions(
        if_match=_wanted(match, with_weak=False),
        if_none_match=_wanted(none_match, with_weak=True),
    )


def _wanted(tags: Tags | None, *, with_weak: bool) -> tuple[str, ...]:
    if tags is None:
        return ()
    if tags.is_any:
        return ("*",)
    plain = _plain(tags.strong + (tags.weak if with_weak else ()))
    # A condition that nothing can meet is still a condition.
    return plain or ("no entity tag was given",)


def _plain(tags: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(tag.removesuffix(GZIP_SUFFIX) for tag in tags)


def http_date(time_ms: int) -> str:
    """An HTTP date of a time in ms since 1970."""
    moment = datetime.fromtimestamp(time_ms // 1000, UTC)
    # By hand: email.utils does the same several times slower, once an answer.
    day, month = _DAYS[moment.weekday()], _MONTHS[moment.month - 1]
    return f"{day}, {moment:%d} {month} {moment:%Y %H:%M:%S} GMT"


def parse_date(header: str | None) -> int | None:
    """Seconds since 1970; None if missing or not a date, which is then ignored."""
    if not header:
        return None
    try:
        moment = parsedate_to_datetime(header)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return int(moment.timestamp())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
