"""Where the body of a request belongs in an upload, as its headers say."""

import re
from collections.abc import Mapping

from frontend.serving.ranges import parse_range
from osscore.errors import InvalidArgument

_DIGITS_MAX = 19
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)")


def offset_of(
    headers: Mapping[str, str], *, body_bytes: int | None, planned_bytes: int | None
) -> int:
    """The offset that `Upload-Offset: N`, `Range: bytes=N-` or `Content-Range` names; 0 if none
    does.

    Raises InvalidArgument for one that cannot be read, and where two of them, or an end they
    name and the body's length, contradict each other: whoever is confused should learn it
    before a byte is kept.
    """
    named = [
        *_upload_offset(headers.get("Upload-Offset")),
        *_range(headers.get("Range"), body_bytes),
        *_content_range(headers.get("Content-Range"), body_bytes, planned_bytes),
    ]
    if len(set(named)) > 1:
        raise InvalidArgument("The headers name different offsets.")
    return named[0] if named else 0


def _upload_offset(text: str | None) -> list[int]:
    if text is None:
        return []
    if not (text.isascii() and text.isdecimal()) or len(text) > _DIGITS_MAX:
        raise InvalidArgument("Upload-Offset is a whole number of bytes.")
    return [int(text)]


def _range(header: str | None, body_bytes: int | None) -> list[int]:
    if header is None:
        return []
    wanted = parse_range(header)
    if wanted is None or wanted.first is None:
        raise InvalidArgument("Where the body goes is written Range: bytes=OFFSET-")
    if wanted.last is not None:
        _check_length(wanted.last - wanted.first + 1, body_bytes)
    return [wanted.first]


def _content_range(
    header: str | None, body_bytes: int | None, planned_bytes: int | None
) -> list[int]:
    if header is None:
        return []
    match = _CONTENT_RANGE.fullmatch(header.strip())
    if match is None:
        raise InvalidArgument("Content-Range is written bytes FIRST-LAST/SIZE.")
    first, last = int(match[1]), int(match[2])
    _check_length(last - first + 1, body_bytes)
    if match[3] != "*" and planned_bytes is not None and int(match[3]) != planned_bytes:
        raise InvalidArgument(f"The upload was begun for {planned_bytes} bytes, not {match[3]}.")
    return [first]


def _check_length(named_bytes: int, body_bytes: int | None) -> None:
    if body_bytes is not None and named_bytes != body_bytes:
        raise InvalidArgument(f"The range has {named_bytes} bytes, the body {body_bytes}.")
