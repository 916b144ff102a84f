"""What every flow needs, made once in `__main__` and passed along."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from blobd.client import BlobClient
from frontend.cluster import ClusterView
from frontend.flows.batches import ShardBatches
from frontend.flows.damage import DamageNotes
from frontend.flows.pace import ReadPace
from frontend.flows.under_way import UnderWay
from osscore.erasure import Codec
from osscore.errors import MetadataLowSpace
from osscore.model import Profile
from osscore.names import StripeId, stripe_id
from ossd.budget import ByteBudget
from ossd.clock import Clock, RandomBytes
from ossd.lending import Lending
from raftmeta.client import MetaClient
from raftmeta.credentials import AuditNote, KeyedCommand

R = TypeVar("R")
T = TypeVar("T")

OFF_LOOP_BYTES = 64 * 1024
"""Hashing, coding and compressing more than this happens in a thread."""
_STRIPE_COST_FACTOR = 3
"""A stripe under way holds its pieces or shards, its joined bytes, and parity or a copy."""
_BACKGROUND_MAX = 64
_REWRITES_MAX = 2
ADOPTIONS_MAX = 8


def stripe_cost_bytes(plain_bytes: int) -> int:
    """What a stripe of that size holds in memory while it is written or read."""
    return plain_bytes * _STRIPE_COST_FACTOR


def stripe_work_bytes(plain_bytes: int) -> int:
    """The part of it that comes on top of the stripe's own bytes."""
    return stripe_cost_bytes(plain_bytes) - plain_bytes


class Proposer(Protocol):
    """Takes commands to the catalog: the MetaClient, or whoever adds conditions to them."""

    async def propose(
        self, command: KeyedCommand, result: type[R], *, audit: AuditNote | None = None
    ) -> R:
        """See MetaClient.propose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowSettings:
    """Times of the flows, in seconds."""

    # How long a stripe may stay unnamed, and a dead one stays readable (SAFETY rule 1).
    gc_grace_s: float = 3600.0
    # A long body's upload row expires this long after its last window.
    upload_ttl_s: float = 900.0
    # After this the durable quorum suffices (SAFETY rule 7).
    all_shards_s: float = 2.0
    # After this a write without its quorum has failed.
    quorum_s: float = 20.0
    # One shard to or from one node.
    shard_deadline_s: float = 15.0
    # A shard that has not come by then is replaced through parity, hedge or not.
    shard_patience_s: float = 2.0
    # Bodies above this are refused.
    object_bytes_max: int = 5 << 40


@dataclass(slots=True, kw_only=True)
class Store:
    """The parts that flows work with. One a process, used on its event loop."""

    meta: MetaClient
    blobs: BlobClient
    cluster: ClusterView
    codec: Codec
    budget: ByteBudget
    """What work on stripes takes. Who holds of it waits for the cluster only: never for a
    client, a loan, or more of it."""
    loans: Lending
    """What bodies hold for as long as their clients take."""
    batches: ShardBatches
    pace: ReadPace
    clock: Clock
    random: RandomBytes
    threads: ThreadPoolExecutor
    settings: FlowSettings = field(default_factory=FlowSettings)
    profiles: dict[str, tuple[float, Profile | None]] = field(default_factory=dict)
    """By bucket: when it was learnt (monotonic), and its profile."""
    damage: DamageNotes = field(default_factory=DamageNotes)
    under_way: UnderWay = field(default_factory=UnderWay)
    rewriting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_REWRITES_MAX))
    """Rewriting holds memory to write while it waits for memory to read: many at once could
    wait for each other for ever."""
    adopting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(ADOPTIONS_MAX))
    """Taking in a temp holds a piece of it, of 4 MiB, that no room is lent for yet."""
    _background: set[asyncio.Task[Any]] = field(default_factory=set)

    async def off_loop(self, size_bytes: int, work: Callable[..., T], *args: Any) -> T:
        """Run `work` here if it is short, else in a thread."""
        if size_bytes <= OFF_LOOP_BYTES:
            return work(*args)
        return await asyncio.get_running_loop().run_in_executor(self.threads, work, *args)

    def has_room(self, share_max: float) -> bool:
        """Whether at most that share of the memory for bodies is in use."""
        return self.budget.has_surplus(share_max) and self.loans.has_surplus(share_max)

    def fresh_stripe_id(self) -> StripeId:
        """An id born now by catalog time (SAFETY rule 1)."""
        return stripe_id(self.meta.catalog_time_ms, self.random(10))

    async def check_admits_writes(self) -> None:
        """Raises MetadataLowSpace while the metanodes take only what shrinks."""
        if not (await self.cluster.current()).described.admits_writes:
            raise MetadataLowSpace()

    def in_background(self, work: Coroutine[Any, Any, None]) -> bool:
        """Run what nobody waits for; False, and dropped, when too much of that runs already.

        `work` handles its own errors.
        """
        if len(self._background) >= _BACKGROUND_MAX:
            work.close()
            return False
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return True

    async def close(self) -> None:
        """Let background work end shortly, then cut it; stop the threads."""
        if self._background:
            _, late = await asyncio.wait(self._background, timeout=2)
            for task in late:
                task.cancel()
        await self.batches.close()
        await self.cluster.close()
        self.threads.shutdown(wait=False, cancel_futures=True)
