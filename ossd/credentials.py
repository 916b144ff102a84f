"""The Authorization header of the native API, as an access key and a secret.

`Basic` (as `curl -u ACCESS:SECRET` sends it) or `Bearer ACCESS:SECRET`.
"""

import base64
import binascii
from dataclasses import dataclass, field

from osscore.errors import Unauthenticated

REALM = 'Basic realm="raftoss", charset="UTF-8"'
"""What a 401 asks for, as WWW-Authenticate."""
_HEADER_CHARS_MAX = 1024


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a caller claims; nothing is checked yet."""

    access_key: str
    secret: bytes = field(repr=False)


def parse_authorization(header: str | None) -> Credentials:
    """Read the header. Raises Unauthenticated if it is missing or of another form."""
    if not header:
        raise Unauthenticated("This needs credentials: Basic or Bearer ACCESS:SECRET.")
    if len(header) > _HEADER_CHARS_MAX:
        raise Unauthenticated("The Authorization header is too long.")
    scheme, _, rest = header.partition(" ")
    match scheme.lower():
        case "basic":
            pair = _decode_basic(rest.strip())
        case "bearer":
            pair = rest.strip().encode("latin-1", "replace")
        case _:
            raise Unauthenticated("Authorization is either Basic or Bearer ACCESS:SECRET.")
    access_key, colon, secret = pair.partition(b":")
    if not colon or not access_key or not secret:
        raise Unauthenticated("The credentials are of the form ACCESS:SECRET.")
    return Credentials(access_key.decode("utf-8", "replace"), secret)


def _decode_basic(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Unauthenticated("The Basic credentials are not valid base64.") from error
