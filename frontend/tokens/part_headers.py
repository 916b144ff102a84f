"""Headers of a part of a form (RFC 7578), as browsers and tools really send them."""

import re
import unicodedata
from urllib.parse import unquote

from osscore.errors import InvalidArgument

FILE_NAME_BYTES_MAX = 1024
_PARAMETER = re.compile(r""";\s*([A-Za-z0-9!#$&+.^_`|~-]+\*?)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)""")
_ESCAPED = re.compile(r"\\([\\\"])")
_EXTENDED = re.compile(r"(utf-8|iso-8859-1)'[A-Za-z0-9-]*'(.*)", re.IGNORECASE | re.DOTALL)


def text_of(value: bytes) -> str:
    """A header value: UTF-8, as every browser sends it, else Latin-1, as HTTP once had it."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def parameters(header: str) -> dict[str, str]:
    """What follows the first `;` of a header, by lower-case name; the first of a name counts.

    `name*=UTF-8''...` (RFC 8187) counts as `name`, before a plain one.
    """
    plain: dict[str, str] = {}
    extended: dict[str, str] = {}
    for name, value in _PARAMETER.findall(header):
        lower = name.lower()
        if not lower.endswith("*"):
            plain.setdefault(lower, _plain(value.strip()))
            continue
        match = _EXTENDED.fullmatch(value.strip().strip('"'))
        if match is not None:
            decoded = unquote(match[2], encoding=match[1], errors="replace")
            extended.setdefault(lower[:-1], decoded)
    return {**plain, **extended}


def _plain(value: str) -> str:
    if not value.startswith('"'):
        return value
    # Only what must be escaped is: some browsers send paths with single backslashes. A quote
    # is %22 in forms sent by browsers.
    return _ESCAPED.sub(r"\1", value[1:-1]).replace("%22", '"')


def clean_file_name(text: str) -> str:
    """A name fit to be given back: the last piece of a path, without control characters.

    Empty if nothing remains, or only what a path calls a folder by: '.' and '..' name no file.
    Raises InvalidArgument if it is too long.
    """
    last = re.split(r"[/\\]", text)[-1]
    name = "".join(char for char in last if unicodedata.category(char) not in ("Cc", "Cs"))
    size_bytes = len(name.encode())
    if size_bytes > FILE_NAME_BYTES_MAX:
        raise InvalidArgument(f"A file name has at most {FILE_NAME_BYTES_MAX} bytes of UTF-8.")
    name = name.strip()
    return "" if name in (".", "..") else name
