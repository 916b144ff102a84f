"""Arguments of token requests, from a query string or a form, parsed strictly."""

import re
from collections.abc import Sequence

from frontend.serving import query
from frontend.serving.query import Arguments
from frontend.tickets import TTL_S_DEFAULT
from frontend.tokens.part_headers import clean_file_name
from osscore.errors import InvalidArgument
from raftmeta.commands import CHUNK_NUMBER_MAX

_INTEGER = re.compile(r"[0-9]{1,19}")
_HASH = re.compile(r"[0-9a-fA-F]{64}")
CHUNK_NAMES = ("chuck", "chunk")
"""Both spellings; the first is the older store's."""


def chunk_number(arguments: Arguments) -> int:
    """Which chunk is meant, 0 to 10,000. Raises InvalidArgument for anything else."""
    given = [query.text(arguments, name) for name in CHUNK_NAMES if name in arguments]
    if not given:
        raise InvalidArgument("Which chunk is it? ?chuck=N, from 0 or from 1 on.")
    numbers = {_integer(text, "The number of a chunk") for text in given}
    if len(numbers) > 1:
        raise InvalidArgument("chuck and chunk name two different numbers.")
    number = numbers.pop()
    if number > CHUNK_NUMBER_MAX:
        raise InvalidArgument(f"Chunks are numbered 0 to {CHUNK_NUMBER_MAX}.")
    return number


def chunk_sha256(arguments: Arguments) -> bytes | None:
    """What the chunk has by its sender, `chunk_hash` or `chuck_hash`; None: not said. Raises
    InvalidArgument."""
    found = {
        query.text(arguments, name)
        for name in (f"{n}_hash" for n in CHUNK_NAMES)
        if name in arguments
    }
    if len({text.lower() for text in found}) > 1:
        raise InvalidArgument("chuck_hash and chunk_hash name two different hashes.")
    text = found.pop() if found else None
    if text is None:
        return None
    if not _HASH.fullmatch(text):
        raise InvalidArgument("chunk_hash is the SHA-256 of the chunk: 64 hex digits.")
    return bytes.fromhex(text)


def ttl_s(arguments: Arguments) -> int:
    """How long a token is to live, in seconds. Raises InvalidArgument."""
    return _number(arguments, "ttl", TTL_S_DEFAULT)


def max_size_bytes(arguments: Arguments) -> int:
    """The most bytes that may be uploaded, 0: any. Raises InvalidArgument."""
    return _number(arguments, "max_size", 0)


def file_name(arguments: Arguments) -> str:
    """The name a file gets. Raises InvalidArgument unless one is given."""
    name = clean_file_name(query.text(arguments, "file_name"))
    if not name:
        raise InvalidArgument("The file needs a name: file_name=...")
    return name


def _number(arguments: Arguments, name: str, default: int) -> int:
    values: Sequence[bytes] = arguments.get(name, ())
    return _integer(query.text(arguments, name), name) if values else default


def _integer(text: str, what: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise InvalidArgument(f"{what} is a whole number, not {text[:20]!r}.")
    return int(text)
