"""Arguments in the query string, parsed strictly."""

from collections.abc import Mapping, Sequence
from datetime import UTC

from osscore.errors import InvalidArgument
from osscore.times import parse_time, time_ms

Arguments = Mapping[str, Sequence[bytes]]


def text(arguments: Arguments, name: str, default: str = "") -> str:
    """The last value of an argument. Raises InvalidArgument unless it is UTF-8."""
    values = arguments.get(name)
    if not values:
        return default
    try:
        return values[-1].decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{name} must be valid UTF-8.") from error


def number(arguments: Arguments, name: str) -> int | None:
    """A whole number, None if not given. Raises InvalidArgument."""
    value = text(arguments, name)
    if not value and name not in arguments:
        return None
    if not (value.isascii() and value.isdecimal()):
        raise InvalidArgument(f"{name} must be a whole number, not {value[:20]!r}.")
    # Longer ones are no version of anything; int() on megabytes of digits is slow.
    return int(value[:30])


def moment_ms(arguments: Arguments, name: str) -> int:
    """A time as unix ms, in UTC where it names no zone; 0 if not given. Raises InvalidArgument."""
    value = text(arguments, name)
    if not value and name not in arguments:
        return 0
    moment = parse_time(value)
    return time_ms(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def flag(arguments: Arguments, name: str) -> bool:
    """Whether an argument is given and not switched off."""
    return name in arguments and text(arguments, name).lower() not in ("0", "false", "no")


def limit(arguments: Arguments, *, default: int, most: int) -> int:
    """How many entries a page may have. Raises InvalidArgument below 1."""
    wanted = number(arguments, "limit")
    if wanted is None:
        return default
    if wanted < 1:
        raise InvalidArgument("limit must be at least 1.")
    return min(wanted, most)
