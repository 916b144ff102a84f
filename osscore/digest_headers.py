"""Digests that a request declares: `Digest` (RFC 3230), `Content-Digest` and `Repr-Digest`
(RFC 9530), and hashes in paths."""

import base64
import binascii
import re
from collections.abc import Mapping

from osscore.errors import InvalidArgument

SHA256_BYTES = 32
_HEADERS = ("Digest", "Content-Digest", "Repr-Digest")
_HEX = re.compile(r"[0-9a-fA-F]{64}")
_ITEM = re.compile(r"\s*([A-Za-z0-9_*.-]+)\s*=\s*:([A-Za-z0-9+/=]*):\s*(;.*)?")


def declared_sha256(headers: Mapping[str, str]) -> bytes | None:
    """The SHA-256 the body must have, if any header names one.

    Other algorithms beside it are ignored. Raises InvalidArgument for a malformed SHA-256, for
    two that differ, and where only others are named: who sends one wants it to be checked.
    """
    found = set()
    if "Digest" in headers:
        found |= _old_form(headers["Digest"])
    for name in ("Content-Digest", "Repr-Digest"):
        if name in headers:
            found |= _new_form(name, headers[name])
    named = [name for name in _HEADERS if name in headers]
    if named and not found:
        raise InvalidArgument(
            f"{named[0]} names no SHA-256, and nothing else is checked: send it, alone or beside"
            " others."
        )
    if len(found) > 1:
        raise InvalidArgument("The request declares two different SHA-256 digests.")
    return found.pop() if found else None


def _old_form(header: str) -> set[bytes]:
    found = set()
    for item in header.split(","):
        algorithm, equals, value = item.strip().partition("=")
        if not equals:
            raise InvalidArgument("Digest is written SHA-256=<base64>.")
        if algorithm.strip().lower() == "sha-256":
            found.add(_sha256(value.strip(), "Digest"))
    return found


def _new_form(name: str, header: str) -> set[bytes]:
    found = set()
    for item in header.split(","):
        match = _ITEM.fullmatch(item)
        if match is None:
            raise InvalidArgument(f"{name} is written sha-256=:<base64>:.")
        if match[1].lower() == "sha-256":
            found.add(_sha256(match[2], name))
    return found


def _sha256(text: str, name: str) -> bytes:
    digest = bytes.fromhex(text) if _HEX.fullmatch(text) else _from_base64(text)
    if digest is None:
        raise InvalidArgument(f"{name} holds no base64 of the 32 bytes of a SHA-256.")
    return digest


def _from_base64(text: str) -> bytes | None:
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return digest if len(digest) == SHA256_BYTES else None


def hash_of_name(name: str) -> bytes | None:
    """The SHA-256 a name spells in hex or base64 (standard or URL-safe); None if it does not."""
    if _HEX.fullmatch(name):
        return bytes.fromhex(name)
    if not name.isascii() or len(name) > 44:
        return None
    text = name.replace("-", "+").replace("_", "/")
    return _from_base64(text + "=" * (-len(text) % 4))


def base64_text(digest: bytes) -> str:
    """Standard base64, as hashes are written in answers."""
    return base64.b64encode(digest).decode()
