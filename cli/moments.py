"""Times on the command line: ISO 8601, unix seconds, or how long ago, as in '2h' or '3d'.

Where no zone is written the local one is meant, which is how `ls -l` and `versions` show times.
As those show whole seconds, a time without a fraction stands for that whole second: `--at` means
its end, `--since` its beginning.
"""

import re
import time
from datetime import UTC, datetime
from typing import Annotated

import typer

from cli.durations import parse_duration
from cli.output import UsageError
from osscore.errors import InvalidArgument
from osscore.times import iso_time, parse_time, time_ms

_AGE = re.compile(r"(?:\d+[a-z])+", re.IGNORECASE)
_FRACTION = re.compile(r"[.,]\d")
HELP = "ISO 8601 (local time unless it names a zone), unix seconds, or an age such as 2h or 3d."
At = Annotated[
    str | None, typer.Option("--at", metavar="TIME", help=f"As it was at that time: {HELP}")
]


def which_version(version: int | None, at: str | None) -> dict[str, str]:
    """The arguments that ask for it; none: the current one. Raises UsageError."""
    if version is not None and at is not None:
        raise UsageError("--version and --at do not go together")
    if at is not None:
        return {"at": parse_at(at)}
    return {} if version is None else {"version": str(version)}


def parse_at(text: str) -> str:
    """The end of what `text` means, as the API is told it. Raises UsageError."""
    moment_ms, is_whole_second = _parse(text)
    return iso_time(moment_ms + 999 if is_whole_second else moment_ms)


def parse_since(text: str) -> str:
    """The beginning of it. Raises UsageError."""
    return iso_time(_parse(text)[0])


def _parse(text: str) -> tuple[int, bool]:
    """Unix ms, and whether no fraction of a second was given. Raises UsageError."""
    word = text.strip()
    if word == "0" or _AGE.fullmatch(word):
        age_ms = parse_duration(word) * 1000
        return max(1, time.time_ns() // 1_000_000 - age_ms), False
    try:
        moment = parse_time(word)
        # Asked of the system, as it was or will be on that day, with its summer time.
        local = moment if moment.tzinfo else moment.astimezone()
        return time_ms(local.astimezone(UTC)), not _FRACTION.search(word)
    except InvalidArgument as error:
        raise UsageError(f"{text!r} is no time. Give {HELP}") from error
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(f"{text!r} is no time that this system knows") from error


def shown(moment: str) -> str:
    """A time of the API as people here read it, with its zone: which was meant."""
    local = datetime.fromisoformat(moment).astimezone()
    return local.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + local.strftime(" %z")
