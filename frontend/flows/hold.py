"""A long GET keeps its manifest's stripes alive (SAFETY rule 4).

What is deleted stays readable for the grace; a reader that takes longer than a quarter of
that holds references, renews them, and gives them back.
"""

from frontend.flows.store import Store
from osscore.errors import NoSuchVersion, StoreError
from raftmeta.commands import AbortUpload, Done, HoldManifest

_TTL_EXTRA_S = 60.0


class ManifestHold:
    """The hold of one GET. `keep` it now and then, `release` it at the end."""

    def __init__(self, store: Store, manifest: int) -> None:
        self._store = store
        self._manifest = manifest
        self._upload = b""
        self._safe_until_s = store.clock.monotonic_s() + store.settings.gc_grace_s / 4

    async def keep(self, *, now: bool = False) -> None:
        """Hold, or renew, once the last time is a quarter of the grace ago; `now`: at once."""
        is_due = self._store.clock.monotonic_s() >= self._safe_until_s
        if not (is_due or (now and not self._upload)):
            return
        grace_s = self._store.settings.gc_grace_s
        self._upload = self._upload or self._store.random(16)
        self._safe_until_s = self._store.clock.monotonic_s() + grace_s / 4
        command = HoldManifest(
            upload=self._upload,
            manifest=self._manifest,
            ttl_ms=int((grace_s / 2 + _TTL_EXTRA_S) * 1000),
        )
        try:
            await self._store.meta.propose(command, Done)
        except NoSuchVersion:
            # Deleted since we began: its stripes stay for the grace, which must do.
            self._upload = b""

    def release(self) -> None:
        """Give the references back, beside everything else."""
        if self._upload:
            self._store.in_background(self._release())

    async def _release(self) -> None:
        try:
            await self._store.meta.propose(AbortUpload(upload=self._upload), Done, deadline_s=10)
        except StoreError:
            pass  # the hold expires by itself
