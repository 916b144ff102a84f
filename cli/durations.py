"""Durations on the command line: '90s', '1h', '30d', or several together as in '1h30m'."""

import re

from cli.output import UsageError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_PART = re.compile(r"(\d{1,9})([smhdw])")
_WHOLE = re.compile(r"(?:\d{1,9}[smhdw])+")


def parse_life(text: str) -> int:
    """As `parse_duration`; 'off' is 0, for never."""
    return 0 if text.strip().lower() == "off" else parse_duration(text)


def shown_duration(duration_s: int) -> str:
    """As it would be given, in as few units as it takes: '30d', '1h30m'."""
    parts = []
    for unit in "dhms":
        count, duration_s = divmod(duration_s, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_duration(text: str) -> int:
    """Seconds. Raises UsageError."""
    word = text.strip().lower()
    if word == "0":
        return 0
    if not _WHOLE.fullmatch(word):
        raise UsageError(f"{text!r} is no duration such as 90s, 15m, 1h, 30d or 1h30m")
    return sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(word))
