"""Who may do what: access keys with scopes and limits, for every role that users reach.

Each check asks the catalog, linearizably: once a key is revoked, narrowed or rotated, or the
system token replaced, and that was acknowledged, nobody gets past with the old one anywhere.
The question is small: while no key has changed since this process learnt one (`keys_epoch`),
the answer is "unchanged", and questions of many requests travel together (`MetaClient`).
A write need not ask: what is remembered of its key (`Access.recall`) becomes a condition of its
command (`IfKeyUnchanged`).
"""

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from blake3 import blake3

from osscore.digests import blake3_256
from osscore.errors import AccessDenied, NoSuchAccessKey, Unauthenticated
from ossd.clock import Clock, RandomBytes
from ossd.credentials import Credentials
from ossd.signing import ClusterSecrets, seal, unseal
from raftmeta.client import MetaClient, unwrap_catalog_key
from raftmeta.credentials import (
    AccessKeyFound,
    FindAccessKey,
    FindSystemToken,
    KeysUnchanged,
    SystemTokenFound,
)
from raftmeta.queries import Answer, ClusterDescribed

UPLOAD: Final = "upload"
DOWNLOAD: Final = "download"
INFO: Final = "info"
DELETE: Final = "delete"
ADMIN: Final = "admin"
SYSTEM: Final = "system"
"""In the audit: whoever holds the system token."""

_KNOWN_MAX = 4096
_KEY_CHARS_MAX = 128
_TOKEN_CHARS_MAX = 1024
_NO_SECRET = b"no such key has this secret"
_CONTEXT = "raftoss 2025-11-22 catalog key v1 "


@dataclass(frozen=True, slots=True)
class Grant:
    """A caller who proved who they are. `buckets`, `prefixes` empty: no limit.

    `created_at_ms` tells the key from a later one of the same id.
    """

    access_key: str
    scopes: frozenset[str]
    buckets: frozenset[str]
    prefixes: tuple[str, ...] = ()
    expires_at_ms: int = 0
    created_at_ms: int = 0

    def may(self, scope: str, bucket: str | None = None, key: str | None = None) -> bool:
        """Whether `scope` is granted for an object, or for all whose keys begin with `key`.

        `key` None: for the bucket as a whole; `bucket` None: for the cluster. `admin`
        includes every scope. A key limited to prefixes may only look at (`info`) what is no
        object of its own; one with any limit does not administer the cluster.
        """
        if scope not in self.scopes and ADMIN not in self.scopes:
            return False
        if bucket is None:
            return scope != ADMIN or not (self.buckets or self.prefixes)
        if self.buckets and bucket not in self.buckets:
            return False
        if not self.prefixes:
            return True
        return scope == INFO if key is None else key.startswith(self.prefixes)

    def require(self, scope: str, bucket: str | None = None, key: str | None = None) -> None:
        """Raises AccessDenied unless `may`."""
        if self.may(scope, bucket, key):
            return
        where = f" in bucket {bucket!r}" if bucket else ""
        if self.prefixes and self.may(scope, bucket, self.prefixes[0]):
            where += " but for names that begin as it is limited to"
        raise AccessDenied(f"This access key does not permit {scope}{where}.")


@dataclass(frozen=True, slots=True)
class Began:
    """Who began something that outlives its request, and when; times in ms of catalog time.

    `since_ms`: when the key was created, 0 where an older program did not write it down.
    """

    access_key: str
    since_ms: int
    at_ms: int

    def is_by(self, grant: Grant) -> bool:
        """Whether that is the same key, and no later one of its id."""
        if self.since_ms:
            return grant.created_at_ms == self.since_ms
        return grant.created_at_ms <= self.at_ms


@dataclass(frozen=True, slots=True)
class Proof:
    """A caller who was checked, by a key as it was at `changed_at_ms` of catalog time.

    `changed_at_ms` 0: a metanode told of it that does not know `IfKeyUnchanged`.
    `is_former_secret`: by the secret before the last rotation, whose overlap is not over.
    """

    grant: Grant
    changed_at_ms: int
    is_former_secret: bool


class Vault:
    """Seals and opens what the catalog keeps secret, under its key. Use from one event loop."""

    def __init__(
        self, describe: Callable[[], Awaitable[ClusterDescribed]], secrets: ClusterSecrets
    ) -> None:
        """`describe` gives the cluster as last heard of: its wrapped catalog key never changes
        but by rotation of the cluster secret."""
        self._describe = describe
        self._secrets = secrets
        self._catalog_key: tuple[bytes, bytes] = (b"", b"")

    async def seal(self, plain: bytes, random: RandomBytes) -> bytes:
        """Encrypt for the catalog. Raises Unavailable before the cluster was ever heard of."""
        return seal(await self._key(), plain, random)

    async def open(self, sealed: bytes) -> bytes:
        """Inverse of seal. Raises Corrupt, Unavailable."""
        return unseal(await self._key(), sealed)

    async def derive(self, purpose: str) -> bytes:
        """32 bytes for one purpose that stay the same as long as the store exists."""
        return blake3(await self._key(), derive_key_context=_CONTEXT + purpose).digest()

    async def _key(self) -> bytes:
        wrapped = (await self._describe()).catalog_key_wrapped
        if self._catalog_key[0] != wrapped:
            self._catalog_key = (wrapped, unwrap_catalog_key(self._secrets, wrapped))
        return self._catalog_key[1]


@dataclass(frozen=True, slots=True)
class _Known:
    """A key as it was at `epoch`."""

    epoch: int
    grant: Grant
    secret: bytes = field(repr=False)
    previous: bytes = field(repr=False)
    previous_until_ms: int
    changed_at_ms: int


class Access:
    """Decides on credentials. Use from one event loop."""

    def __init__(
        self,
        meta: MetaClient,
        describe: Callable[[], Awaitable[ClusterDescribed]],
        secrets: ClusterSecrets,
        *,
        clock: Clock,
    ) -> None:
        """`describe`: see Vault."""
        self.vault = Vault(describe, secrets)
        self._meta = meta
        self._clock = clock
        self._known: dict[str, _Known] = {}

    def now_ms(self) -> int:
        """The time that expiry is judged by: whichever clock, ours or the catalog's, is ahead."""
        return max(self._clock.now_ms(), self._meta.catalog_time_ms)

    async def grant(self, credentials: Credentials) -> Grant:
        """Check a secret. Raises Unauthenticated, or Unavailable if nobody can tell."""
        return (await self.prove(credentials)).grant

    async def prove(self, credentials: Credentials) -> Proof:
        """Like `grant`, with what a command needs to hold only while that is so."""
        return self._check(await self._find(credentials.access_key), credentials)

    def recall(self, credentials: Credentials) -> Proof | None:
        """Check a secret by what is remembered of its key, which may be out of date: good only
        as the condition of a command. None: `prove` has to ask."""
        try:
            proof = self._check(self._known.get(credentials.access_key), credentials)
        except Unauthenticated:
            return None  # it may be what it lacks that has changed
        return proof if proof.changed_at_ms else None

    def _check(self, known: _Known | None, credentials: Credentials) -> Proof:
        # An unknown key costs the same comparisons, so that time does not tell it apart.
        secret, previous = (known.secret, known.previous) if known else (_NO_SECRET, b"")
        is_current = hmac.compare_digest(credentials.secret, secret)
        is_previous = hmac.compare_digest(credentials.secret, previous or _NO_SECRET)
        if known is None or not (is_current or (is_previous and previous)):
            raise Unauthenticated("The access key or its secret is wrong.")
        if not is_current and known.previous_until_ms <= self.now_ms():
            raise Unauthenticated("This secret of the access key was replaced by a newer one.")
        if 0 < known.grant.expires_at_ms <= self.now_ms():
            raise Unauthenticated("The access key has expired.")
        return Proof(known.grant, known.changed_at_ms, is_former_secret=not is_current)

    async def find(self, access_key: str) -> Grant | None:
        """What a key may now, without its secret; None: there is none, or it does not work.

        Raises Unavailable.
        """
        known = await self._find(access_key)
        if known is None or 0 < known.grant.expires_at_ms <= self.now_ms():
            return None
        return known.grant

    async def may_still(self, began: Began, scope: str, bucket: str, key: str) -> bool:
        """Whether the key that began something works now and may go on. Raises Unavailable."""
        grant = await self.find(began.access_key)
        return grant is not None and began.is_by(grant) and grant.may(scope, bucket, key)

    async def system_token(self, text: str) -> None:
        """Check the system token. Raises Unauthenticated, Unavailable."""
        if not 0 < len(text) <= _TOKEN_CHARS_MAX:
            raise Unauthenticated("This needs the system token.")
        found = await self._meta.query(FindSystemToken(), SystemTokenFound)
        if not hmac.compare_digest(system_token_digest(text), found.digest):
            raise Unauthenticated("The system token is wrong.")

    async def _find(self, access_key: str) -> _Known | None:
        if not 0 < len(access_key) <= _KEY_CHARS_MAX:
            return None
        known = self._known.get(access_key)
        query = FindAccessKey(access_key=access_key, known_epoch=known.epoch if known else -1)
        try:
            head, answer = await self._meta.query_with_head(query, Answer)
        except NoSuchAccessKey:
            self._known.pop(access_key, None)
            return None
        if isinstance(answer, KeysUnchanged):
            assert known is not None
            return known
        assert isinstance(answer, AccessKeyFound)
        known = await self._opened(answer, head.keys_epoch)
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
        self._known[access_key] = known
        return known

    async def _opened(self, found: AccessKeyFound, epoch: int) -> _Known:
        previous = await self.vault.open(found.previous_sealed) if found.previous_sealed else b""
        return _Known(
            epoch=epoch,
            grant=Grant(
                found.access_key,
                frozenset(found.scopes),
                frozenset(found.buckets),
                found.prefixes,
                found.expires_at_ms,
                found.created_at_ms,
            ),
            secret=await self.vault.open(found.secret_sealed),
            previous=previous,
            previous_until_ms=found.previous_until_ms,
            changed_at_ms=found.changed_at_ms,
        )


def system_token_digest(text: str) -> bytes:
    """What the catalog keeps of a system token."""
    return blake3_256(text.encode("utf-8", "replace"))
