"""Who may call: every internal request carries a signature made with the cluster secret.

::

    X-Oss-Signature: v1 KEY-ID SENDER COUNTER TIME-MS MAC

KEY-ID names the secret (current or previous, SAFETY rule 28), SENDER is random for each
process, COUNTER grows with each of its requests; together they are the nonce. MAC is
BLAKE3 keyed with a key derived from the secret, over method, target (path and query),
sender, counter, time and the keyed BLAKE3 of the body.

A receiver refuses a time more than 5 minutes off, and a counter it has seen: it remembers
the last 65,536 counters of each sender, so requests may overtake one another on several
connections. What it has seen is forgotten at a restart: a request recorded less than five
minutes before one is accepted once more, which every internal request must bear anyway,
since a lost answer makes its own sender repeat it.
"""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from blake3 import blake3

from osscore.errors import Corrupt, InvalidArgument, Unauthenticated
from ossd.clock import Clock, RandomBytes
from ossd.disk import Bytes

HEADER = "X-Oss-Signature"
SECRET_CHARS_MIN = 16
SKEW_MS_MAX = 300_000
WINDOW_COUNT = 65_536
SENDERS_MAX = 4_096

_PURPOSE_REQUESTS = "internal-requests"
_PURPOSE_BODIES = "internal-request-bodies"
_PURPOSE_KEY_ID = "key-id"
_CONTEXT = "raftoss 2025-11-22 cluster secret v1 "
_SEAL_VERSION = b"\x01"
_SEAL_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSecrets:
    """The cluster secret, and the one before it while a rotation is under way.

    Raises InvalidArgument for a secret shorter than SECRET_CHARS_MIN.
    """

    current: str = field(repr=False)
    previous: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for secret in self._all():
            if len(secret) < SECRET_CHARS_MIN:
                raise InvalidArgument(
                    f"The cluster secret must have at least {SECRET_CHARS_MIN} characters."
                )

    def _all(self) -> list[str]:
        return [self.current] if self.previous is None else [self.current, self.previous]

    def derive(self, purpose: str) -> bytes:
        """32 bytes for one purpose, from the current secret; purposes are independent."""
        return _derive(self.current, purpose)

    def derive_all(self, purpose: str) -> list[bytes]:
        """The same from each accepted secret, current first."""
        return [_derive(secret, purpose) for secret in self._all()]


def _derive(secret: str, purpose: str) -> bytes:
    return blake3(secret.encode(), derive_key_context=_CONTEXT + purpose).digest()


@dataclass(frozen=True, slots=True)
class _Keys:
    key_id: str
    request: bytes = field(repr=False)
    body: bytes = field(repr=False)


def _keys(secrets: ClusterSecrets) -> list[_Keys]:
    return [
        _Keys(key_id.hex()[:8], request, body)
        for key_id, request, body in zip(
            secrets.derive_all(_PURPOSE_KEY_ID),
            secrets.derive_all(_PURPOSE_REQUESTS),
            secrets.derive_all(_PURPOSE_BODIES),
            strict=True,
        )
    ]


def _body_digest(key: bytes, body: Bytes | Sequence[Bytes]) -> bytes:
    if isinstance(body, (bytes, bytearray, memoryview)):
        return blake3(body, key=key).digest()
    hasher = blake3(key=key)
    for piece in body:
        hasher.update(piece)
    return hasher.digest()


def _mac(
    keys: _Keys,
    method: str,
    target: str,
    sender: str,
    counter: int,
    time_ms: int,
    body: Bytes | Sequence[Bytes],
) -> str:
    # Newlines cannot occur in any field but the digest, which comes last: no two requests
    # give the same text.
    head = f"v1\n{method}\n{target}\n{sender}\n{counter}\n{time_ms}\n".encode()
    return blake3(head + _body_digest(keys.body, body), key=keys.request).hexdigest()


class Signer:
    """Signs the requests of one process. Not thread-safe: use it on the event loop."""

    def __init__(self, secrets: ClusterSecrets, clock: Clock, random: RandomBytes) -> None:
        self._keys = _keys(secrets)[0]
        self._clock = clock
        self._sender = random(16).hex()
        self._counter = 0

    def headers(self, method: str, target: str, body: Bytes | Sequence[Bytes]) -> dict[str, str]:
        """The header to send; each call is good for one request only."""
        self._counter += 1
        time_ms = self._clock.now_ms()
        mac = _mac(self._keys, method, target, self._sender, self._counter, time_ms, body)
        text = f"v1 {self._keys.key_id} {self._sender} {self._counter} {time_ms} {mac}"
        return {HEADER: text}


@dataclass(frozen=True, slots=True)
class _Signature:
    key_id: str
    sender: str
    counter: int
    time_ms: int
    mac: str


def _parse(text: str | None) -> _Signature:
    fields = (text or "").split(" ")
    if len(fields) != 6 or fields[0] != "v1":
        raise Unauthenticated(f"An internal request needs the header {HEADER}.")
    _, key_id, sender, counter, time_ms, mac = fields
    if not (len(sender) == 32 and len(mac) == 64 and counter.isdecimal() and time_ms.isdecimal()):
        raise Unauthenticated(f"The header {HEADER} is malformed.")
    if len(counter) > 18 or len(time_ms) > 18:
        raise Unauthenticated(f"The header {HEADER} is malformed.")
    return _Signature(key_id, sender, int(counter), int(time_ms), mac)


class _Window:
    """Which counters of one sender were seen: bit i of `seen` is counter `highest - i`."""

    __slots__ = ("highest", "last_ms", "seen")
    _MASK = (1 << WINDOW_COUNT) - 1

    def __init__(self) -> None:
        self.highest = 0
        self.seen = 1  # counter 0 is never sent
        self.last_ms = 0

    def take(self, counter: int) -> bool:
        """Mark a counter; False if it was seen or is too old to tell."""
        ahead = counter - self.highest
        if ahead > 0:
            kept = self.seen << ahead if ahead < WINDOW_COUNT else 0
            self.seen = (kept & self._MASK) | 1
            self.highest = counter
            return True
        if -ahead >= WINDOW_COUNT:
            return False
        bit = 1 << -ahead
        fresh = not self.seen & bit
        self.seen |= bit
        return fresh


class Verifier:
    """Checks the signatures of requests to one process. Not thread-safe."""

    def __init__(self, secrets: ClusterSecrets, clock: Clock) -> None:
        self._keys = {keys.key_id: keys for keys in _keys(secrets)}
        self._clock = clock
        self._windows: dict[str, _Window] = {}

    def check_head(self, headers: Mapping[str, str]) -> None:
        """Refuse what cannot become valid whatever its body; costs nothing.

        Raises Unauthenticated. Passing it proves nothing.
        """
        self._expected(headers)

    def check(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: Bytes | Sequence[Bytes],
    ) -> None:
        """Accept a request once. Raises Unauthenticated."""
        keys, given = self._expected(headers)
        mac = _mac(keys, method, target, given.sender, given.counter, given.time_ms, body)
        if not hmac.compare_digest(mac.encode(), given.mac.encode()):
            raise Unauthenticated("The signature does not match the request.")
        # Only now: an invalid request must not use up the counter of a valid one.
        if not self._window(given.sender).take(given.counter):
            raise Unauthenticated("This request was received before.")

    def _expected(self, headers: Mapping[str, str]) -> tuple[_Keys, _Signature]:
        given = _parse(headers.get(HEADER))
        keys = self._keys.get(given.key_id)
        if keys is None:
            raise Unauthenticated("The request was signed with another cluster secret.")
        skew_ms = given.time_ms - self._clock.now_ms()
        if abs(skew_ms) > SKEW_MS_MAX:
            raise Unauthenticated(f"The clocks of caller and receiver differ by {skew_ms} ms.")
        return keys, given

    def _window(self, sender: str) -> _Window:
        now_ms = self._clock.now_ms()
        window = self._windows.get(sender)
        if window is None:
            if len(self._windows) >= SENDERS_MAX:
                self._forget_silent(now_ms)
            window = self._windows[sender] = _Window()
        window.last_ms = now_ms
        return window

    def _forget_silent(self, now_ms: int) -> None:
        # A request seen at T may be dated up to T + skew and is valid for another skew.
        oldest_ms = now_ms - 2 * SKEW_MS_MAX
        silent = [name for name, window in self._windows.items() if window.last_ms < oldest_ms]
        for name in silent:
            del self._windows[name]
        if not silent:
            raise Unauthenticated("Too many processes have called this one lately.")


def seal(key: bytes, plain: bytes, random: RandomBytes) -> bytes:
    """Encrypt a secret for storage under a 32-byte key: version, nonce, AES-256-GCM."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = random(_SEAL_NONCE_BYTES)
    return _SEAL_VERSION + nonce + AESGCM(key).encrypt(nonce, plain, _SEAL_VERSION)


def unseal(key: bytes, sealed: bytes) -> bytes:
    """Inverse of seal. Raises Corrupt if the key is another or any bit has changed."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce, rest = sealed[1 : 1 + _SEAL_NONCE_BYTES], sealed[1 + _SEAL_NONCE_BYTES :]
    if sealed[:1] != _SEAL_VERSION or len(nonce) < _SEAL_NONCE_BYTES:
        raise Corrupt("A sealed secret is not in a form known here.")
    try:
        return AESGCM(key).decrypt(nonce, rest, _SEAL_VERSION)
    except InvalidTag as error:
        raise Corrupt("A sealed secret does not open with this key.") from error
