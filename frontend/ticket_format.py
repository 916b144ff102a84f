"""The text of a token, `<URL-safe base64 of JSON>.<lower-hex HMAC-SHA256>`: docs/formats/tokens.md.

The MAC covers the base64 text, without padding. Standard base64, padded or not, is read too:
it stands for the same URL-safe text.
"""

import base64
import binascii
import hmac
import re
from dataclasses import dataclass
from hashlib import sha256

import msgspec

from osscore.errors import ForgedToken, MalformedToken

TEXT_CHARS_MAX = 12 * 1024
SECRET_BYTES = 32
_TEXT = re.compile(r"([A-Za-z0-9_+/-]+)(={0,2})\.([0-9a-f]{64})")
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TO_URL_SAFE = str.maketrans("+/", "-_")


class Payload(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a token says. `token_type`: bits 1 upload, 2 download, 4 share; times in Unix
    seconds; `kid` the key it is signed with; `jti` its own id.

    Upload and download: `hash`, lower-hex SHA-256 of the content, and the most bytes it may
    have, 0: any. Share: one version of an object, how a browser takes it, and the access key
    that shared it, as created at `owner_since` (catalog time in ms).
    """

    token_type: int
    expire_at: int
    create_time: int
    hash: str = ""
    kid: str
    jti: str
    max_size: int = 0
    bucket: str = ""
    key: str = ""
    number: int = 0
    disposition: str = ""
    owner: str = ""
    owner_since: int = 0


_decode = msgspec.json.Decoder(Payload, strict=True).decode
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Claim:
    """A token as somebody presents it: worth nothing before `verify`."""

    payload: Payload
    signed: bytes
    mac: str

    def verify(self, secret: bytes) -> None:
        """Raises ForgedToken unless it was signed with `secret`, in constant time."""
        if not hmac.compare_digest(_mac(secret, self.signed).encode(), self.mac.encode()):
            raise ForgedToken()


def write(payload: Payload, secret: bytes) -> str:
    """The token."""
    signed = base64.urlsafe_b64encode(_encode(payload)).rstrip(b"=")
    return f"{signed.decode()}.{_mac(secret, signed)}"


def read(text: str) -> Claim:
    """What a text claims. Raises MalformedToken unless it has exactly the form of a token."""
    match = _TEXT.fullmatch(text) if len(text) <= TEXT_CHARS_MAX else None
    if match is None:
        raise MalformedToken("A token is the base64 of JSON, a dot, and 64 hex digits.")
    body, padding, mac = match.groups()
    if padding and (len(body) + len(padding)) % 4:
        raise MalformedToken("The base64 of the token is padded wrongly.")
    signed = body.translate(_TO_URL_SAFE).encode()
    try:
        payload = _decode(base64.b64decode(signed + b"=" * (-len(signed) % 4), b"-_"))
    # Brackets nested a thousand deep are neither of the others.
    except (binascii.Error, ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise MalformedToken("The token holds no JSON of a token.") from error
    if not (_ID.fullmatch(payload.kid) and _ID.fullmatch(payload.jti)):
        raise MalformedToken("The token names no key or has no id.")
    return Claim(payload, signed, mac)


def _mac(secret: bytes, signed: bytes) -> str:
    return hmac.new(secret, signed, sha256).hexdigest()
