"""Where the disks of the cluster are, and which of them should answer."""

from dataclasses import dataclass

from blobd.described import Described
from osscore.model import Slot, SlotState

_MAY_LIVE = ("up", "unknown")
_READABLE = ("in", "draining", "lost")


@dataclass(frozen=True, slots=True)
class Peer:
    """A disk: the daemon it belongs to, and whether asking that makes sense now."""

    uuid: bytes
    node: str
    url: str
    is_living: bool


class Peers:
    """The disks by number, as of one description."""

    def __init__(self, disks: dict[int, Peer]) -> None:
        self._disks = disks

    @classmethod
    async def now(cls, described: Described) -> "Peers":
        """Raises Unavailable before the first description."""
        cluster = await described.newest()
        return cls(
            {
                disk.disk: Peer(
                    uuid=disk.uuid,
                    node=node.node,
                    url=node.url,
                    is_living=node.health in _MAY_LIVE and disk.state in _READABLE,
                )
                for node in cluster.nodes
                for disk in node.disks
            }
        )

    def of(self, slot: Slot) -> Peer | None:
        """Where the slot's disk is; None: it was never registered."""
        return self._disks.get(slot.disk)

    def by_promise(self, slots: tuple[Slot, ...]) -> list[Slot]:
        """The slots on known disks, most promising first.

        Those the catalog does not call good come last: a shard that landed after its write was
        acknowledged is as good as any if its CRC is right.
        """
        known = [slot for slot in slots if slot.disk in self._disks]
        return sorted(
            known,
            key=lambda s: (
                not self._disks[s.disk].is_living,
                s.state is not SlotState.GOOD,
                s.index,
            ),
        )
