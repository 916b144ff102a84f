"""Handshake and sealing of a Raft link (docs/formats/raft-links.md); no sockets here.

Both ends prove that they know a cluster secret before a byte of theirs is decoded. Keys
are fresh for each connection and direction, and the nonce is a counter, so nothing can be
replayed, reordered, reflected or left out unnoticed.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
from blake3 import blake3

HELLO_MAGIC = b"OSSRAFT1"
KEY_ID_BYTES = 8
NONCE_BYTES = 32
HELLO_BYTES = len(HELLO_MAGIC) + KEY_ID_BYTES + NONCE_BYTES
SEAL_BYTES = 16

_PURPOSE = "raft-links"
_COUNTER = struct.Struct("<4xQ")


class KeySource(Protocol):
    """The cluster secrets, as far as links need them."""

    def derive_all(self, purpose: str) -> Sequence[bytes]:
        """32 bytes from each accepted secret, current first."""


class Introduction(msgspec.Struct, frozen=True, array_like=True):
    """First sealed frame of each side: who speaks, in which cluster, to whom."""

    member: str
    cluster_id: bytes
    to: str


class BadHandshake(Exception):
    """The other end is no member of this cluster, or not one that knows a secret."""


class LinkKeys:
    """The link keys of the accepted secrets, found by their ids (SAFETY rule 28).

    A connector uses its current secret, an acceptor takes current and previous: so a
    secret is rotated in rolling passes (add the new one as previous everywhere, make it
    current everywhere, remove the old one).
    """

    def __init__(self, secrets: KeySource) -> None:
        keys = [bytes(key) for key in secrets.derive_all(_PURPOSE)]
        self._by_id = {_key_id(key): key for key in keys}
        self.current_id = _key_id(keys[0])

    def find(self, key_id: bytes) -> bytes:
        """The key of that id. Raises BadHandshake."""
        key = self._by_id.get(key_id)
        if key is None:
            raise BadHandshake("it uses another cluster secret")
        return key


@dataclass(frozen=True, slots=True)
class Hello:
    """The only thing said in the clear."""

    key_id: bytes
    nonce: bytes

    def pack(self) -> bytes:
        """HELLO_BYTES bytes."""
        return HELLO_MAGIC + self.key_id + self.nonce

    @classmethod
    def parse(cls, data: bytes) -> "Hello":
        """Inverse of pack. Raises BadHandshake."""
        if len(data) != HELLO_BYTES or not data.startswith(HELLO_MAGIC):
            raise BadHandshake("it does not speak this protocol")
        at = len(HELLO_MAGIC)
        return cls(data[at : at + KEY_ID_BYTES], data[at + KEY_ID_BYTES :])


@dataclass(slots=True)
class Session:
    """Seals one direction and opens the other."""

    _sealer: "_Aead" = field(repr=False)
    _opener: "_Aead" = field(repr=False)
    _sealed_count: int = 0
    _opened_count: int = 0

    @classmethod
    def derive(
        cls, key: bytes, *, connector_nonce: bytes, acceptor_nonce: bytes, connector: bool
    ) -> "Session":
        """The session both ends come to from the same key and nonces."""
        # A large module, needed by metanodes only once they form a cluster.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonces = connector_nonce + acceptor_nonce
        forth = AESGCM(blake3(b"connector" + nonces, key=key).digest())
        back = AESGCM(blake3(b"acceptor" + nonces, key=key).digest())
        return cls(forth, back) if connector else cls(back, forth)

    def seal(self, plain: bytes) -> bytes:
        """Encrypt the next frame."""
        self._sealed_count += 1
        return self._sealer.encrypt(_COUNTER.pack(self._sealed_count), plain, None)

    def open(self, sealed: bytes) -> bytes:
        """Decrypt the next frame. Raises BadHandshake if it is not the peer's next one."""
        from cryptography.exceptions import InvalidTag

        self._opened_count += 1
        try:
            return self._opener.decrypt(_COUNTER.pack(self._opened_count), sealed, None)
        except InvalidTag as error:
            raise BadHandshake("a frame was not sealed by a member") from error


class _Aead(Protocol):
    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...


def _key_id(key: bytes) -> bytes:
    return blake3(b"key-id", key=key).digest()[:KEY_ID_BYTES]
