"""Content-Disposition (RFC 6266): how a browser takes a body, and under which file name."""

import re
from urllib.parse import quote

_UNSAFE = re.compile(r"[^ !#$&+.0-9A-Za-z^_`{}~@,;()\[\]=-]")
_NAME_CHARS_MAX = 255


def file_name(key: str) -> str:
    """What a file with that object's name may be called: the part behind the last slash."""
    return key.rstrip("/").rpartition("/")[2][-_NAME_CHARS_MAX:] or "download"


def content_disposition(kind: str, name: str) -> str:
    """The header's value; `kind` is `attachment` or `inline`.

    A name that is not plain ASCII is given twice: for everybody (RFC 8187), and with `_` for
    those who do not know that form.
    """
    plain = _UNSAFE.sub("_", name)
    if plain == name:
        return f'{kind}; filename="{name}"'
    return (
        f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='', errors='replace')}"
    )
