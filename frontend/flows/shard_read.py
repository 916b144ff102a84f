"""One shard, or a window of it, fetched from its slot and checked against the catalog."""

from frontend.flows.store import Store
from osscore.digests import crc32c
from osscore.errors import (
    CorruptShard,
    DeadlineExceeded,
    NoSuchNode,
    NoSuchShard,
    PeerUnreachable,
    StoreError,
)
from osscore.model import ShardIdentity, Slot, SlotState, Stripe

_SILENT = (PeerUnreachable, DeadlineExceeded)
_DAMAGED = (NoSuchShard, CorruptShard)


class ShardReader:
    """Reads shards of one stripe and remembers which ones turned out damaged.

    `damaged`: slots that the catalog calls good although their shard is gone or wrong.
    """

    def __init__(self, store: Store, stripe: Stripe) -> None:
        self.store = store
        self.stripe = stripe
        self.damaged: dict[int, Slot] = {}
        self.errors: list[StoreError] = []

    async def whole(self, slot: Slot) -> bytes:
        """A whole shard that has the CRC the catalog knows."""
        return await self.window(slot, first=0, length=self.stripe.shard_bytes)

    async def window(self, slot: Slot, *, first: int, length: int) -> bytes:
        """`length` bytes from `first` on; its 64 KiB CRCs are checked on arrival.

        Raises StoreErrors, each noted in `errors`.
        """
        try:
            return await self._fetch(slot, first=first, length=length)
        except StoreError as error:
            self._note(slot, error)
            raise

    def is_living(self, slot: Slot) -> bool:
        """Whether asking its node should give an answer."""
        place = self.store.cluster.place(slot.disk)
        return place is not None and self.store.cluster.is_living(place.node)

    def node(self, slot: Slot) -> str:
        """The node of a slot, '' if it is not known."""
        place = self.store.cluster.place(slot.disk)
        return place.node if place else ""

    async def _fetch(self, slot: Slot, *, first: int, length: int) -> bytes:
        store, stripe = self.store, self.stripe
        place = store.cluster.place(slot.disk)
        if place is None:
            raise NoSuchNode(f"Disk {slot.disk} is not known.")
        is_whole = length == stripe.shard_bytes
        with store.pace.reading(place.node):
            body = await store.blobs.get_shard(
                place.url,
                place.uuid,
                ShardIdentity(stripe.stripe, slot.index, slot.gen),
                first=first,
                length=None if is_whole else length,
                deadline_s=store.settings.shard_deadline_s,
            )
        store.cluster.note_success(place.node)
        if len(body) != length:
            raise CorruptShard(f"{len(body)} bytes of a shard came, {length} were asked for.")
        if is_whole and crc32c(body) != stripe.shard_crcs[slot.index]:
            raise CorruptShard("A shard is not the one the catalog knows.")
        return body

    def _note(self, slot: Slot, error: StoreError) -> None:
        self.errors.append(error)
        if isinstance(error, _SILENT):
            self.store.cluster.note_failure(self.node(slot))
        elif isinstance(error, _DAMAGED) and slot.state is SlotState.GOOD:
            self.damaged[slot.index] = slot
