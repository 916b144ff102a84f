"""JSON that strangers send."""

from typing import TypeVar

import msgspec

from osscore.errors import MalformedBody

T = TypeVar("T")


def parse_json(body: bytes, kind: type[T], what: str) -> T:
    """A body as that struct; `what` begins the complaint. Raises MalformedBody."""
    try:
        return msgspec.json.decode(body, type=kind)
    # Bytes that are no UTF-8, and brackets nested a thousand deep, are not its own errors.
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedBody(f"{what}: {error}") from error
