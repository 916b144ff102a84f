"""Values that many requests and answers share, as annotated types."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

HELLO_HEX: Final = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
HELLO_BASE64: Final = "uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek="
"""SHA-256 of "hello world", for examples."""
EXAMPLE_TIME: Final = "2026-03-01T12:00:00.000Z"
EXAMPLE_ID: Final = "000000000000002a0001"
EXAMPLE_HANDLE: Final = "AZvC0c1vSPy0mJk2o0rQ7tFh2Jt0q8xk4m1n9pVw3uY"

Count = Annotated[int, Meta(ge=0)]
Size = Annotated[int, Meta(ge=0, description="Bytes.")]
VersionNumber = Annotated[
    int, Meta(ge=1, description="Counts up from 1 for each object, and never returns.")
]
VersionIdText = Annotated[
    str, Meta(min_length=1, max_length=64, description="Names one version in the whole store.")
]
Sha256Hex = Annotated[
    str, Meta(pattern="^[0-9a-f]{64}$", description="SHA-256 of the content, lower-case hex.")
]
Sha256HexOrNone = Annotated[
    str,
    Meta(
        pattern="^([0-9a-f]{64})?$",
        description="SHA-256 in lower-case hex; empty for a delete marker.",
    ),
]
Etag = Annotated[str, Meta(description="The entity tag without its quotes.")]
Time = Annotated[
    str,
    Meta(
        pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$",
        description="ISO 8601, UTC, with milliseconds.",
    ),
]
BucketText = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
        description="3 to 63 of a-z, 0-9, '-', '.'; no IP address, no '..'.",
    ),
]
BucketOrAll = Annotated[str, Meta(pattern=r"^([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?$")]
KeyText = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=1024,
        description="The name of an object: 1 to 1,024 bytes of UTF-8 without NUL. In a path a"
        " '/' may be written as it is or as %2F.",
    ),
]
ProfileText = Annotated[
    str,
    Meta(
        pattern=r"^([1-9]|1[0-6])\+[1-8]$",
        description="k+m: data and parity shards of each stripe.",
        examples=["4+2"],
    ),
]
ProfileOrNone = Annotated[
    str,
    Meta(
        pattern=r"^(([1-9]|1[0-6])\+[1-8])?$",
        description="k+m: data and parity shards of each stripe; empty: as if left out.",
        examples=["4+2"],
    ),
]
HandleText = Annotated[
    str, Meta(min_length=1, max_length=128, description="An upload's handle: the right to it.")
]
RunText = Annotated[
    str | None,
    Meta(
        description="Goes along with `after`, so that the next step belongs to this one's row of"
        " the audit; null: nothing follows, or no row is needed."
    ),
]
RequestId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]


class Shape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the bodies of answers: an answer has these fields and no others."""


class ErrorDetail(msgspec.Struct, frozen=True, kw_only=True):
    """What failed. Some codes carry more fields: `size_bytes`, `allow`, `stripe_id`."""

    code: Annotated[str, Meta(description="Stable; for programs.")]
    message: Annotated[str, Meta(description="For people.")]
    request_id: Annotated[RequestId, Meta(description="Also in `X-Request-Id` and in the logs.")]


class Error(Shape, frozen=True):
    """The body of every answer of the native API that is an error."""

    error: ErrorDetail
