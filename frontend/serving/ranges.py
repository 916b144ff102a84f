"""The Range header (RFC 9110, section 14): one byte range is served, several are not."""

import re
from dataclasses import dataclass

from osscore.errors import InvalidRange

_RANGE = re.compile(r"([0-9]*)-([0-9]*)")
_POSITION_MAX = (1 << 63) - 1
_POSITION_DIGITS = len(str(_POSITION_MAX))


@dataclass(frozen=True, slots=True)
class ByteRange:
    """`first-last`, `first-` (last None) or the last `suffix` bytes (first None)."""

    first: int | None
    last: int | None
    suffix: int = 0

    def resolve(self, size_bytes: int) -> tuple[int, int]:
        """[first, last], both inclusive, inside the object. Raises InvalidRange."""
        if self.first is None:
            first, last = max(0, size_bytes - self.suffix), size_bytes - 1
        else:
            first = self.first
            last = size_bytes - 1 if self.last is None else min(self.last, size_bytes - 1)
        if first > last:
            raise InvalidRange(size_bytes=size_bytes)
        return first, last


def parse_range(header: str | None) -> ByteRange | None:
    """The one byte range asked for; None if there is none to honour.

    A header that is malformed, of another unit or of several ranges is ignored, as the RFC
    lets a server do: the answer is then the whole object.
    """
    unit, equals, text = (header or "").partition("=")
    if not equals or unit.strip().lower() != "bytes":
        return None
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        return None
    first, last = match.groups()
    if not first:
        return ByteRange(None, None, _position(last)) if last else None
    if last and _position(last) < _position(first):
        return None
    return ByteRange(_position(first), _position(last) if last else None)


def _position(digits: str) -> int:
    """The number, or one behind the end of any object: int() on very many digits is slow."""
    short = digits.lstrip("0")
    return _POSITION_MAX if len(short) > _POSITION_DIGITS else min(int(short or 0), _POSITION_MAX)
