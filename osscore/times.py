"""Times as JSON answers write them, and as people and programs give them."""

import re
from datetime import UTC, datetime, timedelta

from osscore.errors import InvalidArgument

_UNIX = re.compile(r"\d{9,11}(\.\d{1,9})?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def iso_time(time_ms: int) -> str:
    """ISO 8601 in UTC with milliseconds."""
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """ISO 8601, or unix seconds of 9 to 11 digits. Without a zone where none is written.

    Raises InvalidArgument.
    """
    try:
        if _UNIX.fullmatch(text):
            return datetime.fromtimestamp(float(text), UTC)
        if text.isdecimal():
            raise ValueError  # days without dashes, milliseconds: too easily something else
        return datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidArgument(
            f"{text[:40]!r} is no time such as 2026-03-01T12:00:00Z, 2026-03-01 or 1772366400"
            " (unix seconds)."
        ) from error


def time_ms(moment: datetime) -> int:
    """Unix ms of a time with a zone, at least 1: nothing was before 1970."""
    return max(1, (moment - _EPOCH) // timedelta(milliseconds=1))
