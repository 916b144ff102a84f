"""Who may do what: access keys with scopes and bucket limits.

A key is asked for at most once a second; when the catalog says that any key has changed
(`keys_epoch`), everything remembered is dropped at once.
"""

import asyncio
import hmac
from dataclasses import dataclass, field
from typing import Final

from frontend.cluster import ClusterView
from frontend.credentials import Credentials
from osscore.errors import AccessDenied, NoSuchAccessKey, Unauthenticated
from ossd.clock import Clock
from ossd.signing import ClusterSecrets, unseal
from raftmeta.client import MetaClient, unwrap_catalog_key
from raftmeta.queries import AccessKeyFound, FindAccessKey

UPLOAD: Final = "upload"
DOWNLOAD: Final = "download"
INFO: Final = "info"
DELETE: Final = "delete"
ADMIN: Final = "admin"

_KNOWN_S = 1.0
_KNOWN_MAX = 4096
_KEY_CHARS_MAX = 128
_NO_SECRET = b"no such key has this secret"


@dataclass(frozen=True, slots=True)
class Grant:
    """A caller who proved who they are."""

    access_key: str
    scopes: frozenset[str]
    buckets: frozenset[str]

    def may(self, scope: str, bucket: str | None = None) -> bool:
        """Whether `scope` is granted, in `bucket` if one is meant. `admin` includes all."""
        if scope not in self.scopes and ADMIN not in self.scopes:
            return False
        return not self.buckets or bucket is None or bucket in self.buckets

    def require(self, scope: str, bucket: str | None = None) -> None:
        """Raises AccessDenied unless `may`."""
        if not self.may(scope, bucket):
            where = f" in bucket {bucket!r}" if bucket else ""
            raise AccessDenied(f"This access key does not permit {scope}{where}.")


@dataclass(frozen=True, slots=True)
class _Known:
    """`found` None: there is no such key."""

    found: AccessKeyFound | None
    secret: bytes = field(repr=False)
    seen_s: float
    granted: Grant | None = None


class Access:
    """Decides on credentials. Use from one event loop."""

    def __init__(
        self, meta: MetaClient, cluster: ClusterView, secrets: ClusterSecrets, *, clock: Clock
    ) -> None:
        self._meta = meta
        self._cluster = cluster
        self._clock = clock
        self._secrets = secrets
        self._known: dict[str, _Known] = {}
        self._asking: dict[str, asyncio.Task[_Known]] = {}
        self._keys_epoch = -1
        self._catalog_key: tuple[bytes, bytes] = (b"", b"")

    async def grant(self, credentials: Credentials) -> Grant:
        """Check a secret. Raises Unauthenticated, or Unavailable if nobody can tell."""
        known = await self._find(credentials.access_key)
        # An unknown key costs the same comparison, so that time does not tell it apart.
        is_right = hmac.compare_digest(credentials.secret, known.secret)
        if known.found is None or not is_right:
            raise Unauthenticated("The access key or its secret is wrong.")
        expires_at_ms = known.found.expires_at_ms
        if expires_at_ms and expires_at_ms <= self._clock.now_ms():
            raise Unauthenticated("The access key has expired.")
        assert known.granted is not None
        return known.granted

    async def _find(self, access_key: str) -> _Known:
        if self._meta.keys_epoch != self._keys_epoch:
            self._known.clear()
            self._keys_epoch = self._meta.keys_epoch
        now_s = self._clock.monotonic_s()
        known = self._known.get(access_key)
        if known is not None and now_s - known.seen_s < _KNOWN_S:
            return known
        task = self._asking.get(access_key)
        if task is None:
            task = asyncio.create_task(self._ask(access_key, now_s))
            self._asking[access_key] = task
            task.add_done_callback(lambda _: self._asking.pop(access_key, None))
        # Shielded: many requests wait for one answer, and one of them may be cancelled.
        known = await asyncio.shield(task)
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
        self._known[access_key] = known
        return known

    async def _ask(self, access_key: str, now_s: float) -> _Known:
        if len(access_key) > _KEY_CHARS_MAX:
            return _Known(None, _NO_SECRET, now_s)
        try:
            found = await self._meta.query(FindAccessKey(access_key=access_key), AccessKeyFound)
        except NoSuchAccessKey:
            return _Known(None, _NO_SECRET, now_s)
        secret = unseal(await self._key_of_catalog(), found.secret_sealed)
        granted = Grant(found.access_key, frozenset(found.scopes), frozenset(found.buckets))
        return _Known(found, secret, now_s, granted)

    async def _key_of_catalog(self) -> bytes:
        state = self._cluster.latest or await self._cluster.current()
        wrapped = state.described.catalog_key_wrapped
        if self._catalog_key[0] != wrapped:
            self._catalog_key = (wrapped, unwrap_catalog_key(self._secrets, wrapped))
        return self._catalog_key[1]
