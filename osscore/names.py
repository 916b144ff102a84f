"""Names users give and ids the store gives, parsed once at the edge.

Inside the store a `BucketName` is valid; nothing checks it again. Names are never file
names: no path on any disk contains one.
"""

import re
from typing import NewType, Self

from osscore.errors import InvalidName

StripeId = NewType("StripeId", bytes)
"""16 bytes: 6 of birth (catalog time, ms, big endian) and 10 random (SAFETY rule 1)."""

STRIPE_ID_BYTES = 16
_BIRTH_BYTES = 6
OBJECT_KEY_BYTES_MAX = 1024
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_IPV4 = re.compile(r"\d+\.\d+\.\d+\.\d+")


class BucketName(str):
    """A bucket name by the S3 rules: 3 to 63 of a-z, 0-9, '-', '.'."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Check `text`. Raises InvalidName and says which rule it breaks."""
        if not _BUCKET.fullmatch(text):
            raise InvalidName(
                "A bucket name has 3 to 63 characters of a-z, 0-9, '-' and '.', "
                f"and begins and ends with a letter or digit: {text[:80]!r} does not."
            )
        if ".." in text or _IPV4.fullmatch(text):
            raise InvalidName(f"A bucket name is no IP address and has no '..': {text!r}.")
        return cls(text)


class ObjectKey(str):
    """An object's name inside its bucket: 1 to 1,024 bytes of UTF-8, no NUL."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Check `text`. Raises InvalidName and says which rule it breaks."""
        try:
            size_bytes = len(text.encode())
        except UnicodeEncodeError as error:
            raise InvalidName("An object name must be valid UTF-8.") from error
        if not 1 <= size_bytes <= OBJECT_KEY_BYTES_MAX:
            raise InvalidName(
                f"An object name has 1 to {OBJECT_KEY_BYTES_MAX} bytes of UTF-8, not {size_bytes}."
            )
        if "\0" in text:
            raise InvalidName("An object name contains no NUL.")
        return cls(text)


def stripe_id(birth_ms: int, entropy: bytes) -> StripeId:
    """Build an id from catalog time and 10 random bytes."""
    assert len(entropy) == STRIPE_ID_BYTES - _BIRTH_BYTES
    return StripeId(birth_ms.to_bytes(_BIRTH_BYTES, "big") + entropy)


def birth_ms(stripe: StripeId) -> int:
    """The catalog time, in ms, that the id was made from."""
    return int.from_bytes(stripe[:_BIRTH_BYTES], "big")


def version_id(log_index: int, position: int) -> str:
    """The opaque id of the version made by the command at `position` of entry `log_index`.

    Fixed width, so ids sort by age.
    """
    return f"{log_index:012x}{position:04x}"
