"""All shards of one new stripe go out at once, and enough of them come to rest.

All k+m are awaited and failed ones retried elsewhere; only after 2 s does the quorum
suffice, and what is missing is said so in the slots (SAFETY rule 7).
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from blobd.wire import ShardPut
from frontend.flows.batches import SMALL_SHARD_BYTES_MAX
from frontend.flows.encode import Encoded
from frontend.flows.store import Store
from osscore.errors import (
    BadDigest,
    DeadlineExceeded,
    DiskFailing,
    DiskFull,
    DiskRefused,
    OutcomeUnknown,
    PeerUnreachable,
    QuorumLost,
    StoreError,
)
from osscore.model import ShardIdentity, Slot, SlotState
from osscore.names import StripeId
from osscore.placement import Obstacle, Placement, Target, replacement
from osscore.quorum import acknowledged

TARGETS_PER_SHARD_MAX = 4
LATE_S = 30.0
"""How long a shard may still travel after its write was acknowledged without it."""
_SILENT = (PeerUnreachable, DeadlineExceeded)
_READ_ONLY = (DiskFailing, DiskRefused)
_WORTH_REPEATING = (OutcomeUnknown, BadDigest)


class ShardFan:
    """The sending of one stripe. Make one, `send` once."""

    def __init__(
        self,
        store: Store,
        stripe: StripeId,
        encoded: Encoded,
        placement: Placement,
        targets: Sequence[Target],
    ) -> None:
        self._store = store
        self._stripe = stripe
        self._encoded = encoded
        self._targets = list(targets)
        by_disk = {target.disk: target for target in targets}
        self._at = [by_disk[disk] for disk in placement.disks]
        self._durable: dict[int, str] = {}
        self._failed_disks: set[int] = set()
        self._failed_nodes: set[str] = set()
        self._errors: list[StoreError] = []
        self._is_settled = False

    async def send(self) -> tuple[Slot, ...]:
        """Slots in index order, MISSING where nothing became durable. Raises QuorumLost."""
        indexes = range(self._encoded.coding.shard_count)
        tasks = {asyncio.create_task(self._settle(index)): index for index in indexes}
        try:
            await self._wait(set(tasks))
            self._check(tasks)
        except BaseException:
            await _cancel(tasks)
            raise
        self._is_settled = True
        slots = tuple(self._slot(index) for index in indexes)
        await self._leave_late([task for task in tasks if not task.done()])
        return slots

    def _check(self, tasks: Mapping[asyncio.Task[None], int]) -> None:
        """Raises QuorumLost, and what is a bug of ours."""
        for task, index in tasks.items():
            if not task.done():
                # Slow for us, not necessarily dead: later writes avoid it for a while.
                self._store.cluster.note_failure(self._at[index].node)
            elif (error := task.exception()) is not None:
                raise error
        if not self._is_safe():
            reasons = "; ".join(sorted({error.message for error in self._errors}))
            raise QuorumLost(
                f"{len(self._durable)} of {len(tasks)} shards became durable, "
                f"too few to acknowledge the write. {reasons}"
            )

    async def _leave_late(self, late: list[asyncio.Task[None]]) -> None:
        """What is under way to a slow node may still arrive there: its slot is recorded as
        missing, but a reader that needs it finds it, and so will a repair."""
        if late and not self._store.in_background(self._see_off(late)):
            await _cancel(late)

    async def _see_off(self, late: list[asyncio.Task[None]]) -> None:
        cost_bytes = len(late) * self._encoded.shard_bytes
        if not self._store.budget.try_take(cost_bytes):
            await _cancel(late)
            return
        try:
            await asyncio.wait(late, timeout=LATE_S)
        finally:
            await _cancel(late)
            self._store.budget.give(cost_bytes)

    async def _wait(self, tasks: set[asyncio.Task[None]]) -> None:
        settings = self._store.settings
        _, pending = await asyncio.wait(tasks, timeout=settings.all_shards_s)
        deadline_s = self._store.clock.monotonic_s() + settings.quorum_s
        while pending and not self._is_safe():
            left_s = deadline_s - self._store.clock.monotonic_s()
            if left_s <= 0:
                return
            _, pending = await asyncio.wait(
                pending, timeout=left_s, return_when=asyncio.FIRST_COMPLETED
            )

    def _is_safe(self) -> bool:
        return acknowledged(self._encoded.coding, list(self._durable.items()))

    def _slot(self, index: int) -> Slot:
        state = SlotState.GOOD if index in self._durable else SlotState.MISSING
        return Slot(index=index, gen=0, disk=self._at[index].disk, state=state)

    async def _settle(self, index: int) -> None:
        """Make one shard durable somewhere, or give up."""
        for _ in range(TARGETS_PER_SHARD_MAX):
            target = self._at[index]
            try:
                await self._put(index, target)
            except StoreError as error:
                self._note(target, error)
            else:
                self._durable[index] = target.node
                self._store.cluster.note_success(target.node)
                return
            if self._is_settled:
                return  # where it was meant to go is on record
            found = self._elsewhere(index)
            if found is None:
                return
            self._at[index] = found

    def _note(self, target: Target, error: StoreError) -> None:
        self._errors.append(error)
        self._failed_disks.add(target.disk)
        if isinstance(error, _SILENT):
            self._failed_nodes.add(target.node)
            self._store.cluster.note_failure(target.node)
        elif isinstance(error, DiskFull):
            self._store.cluster.note_refusal(target.disk, Obstacle.FULL)
        elif isinstance(error, _READ_ONLY):
            self._store.cluster.note_refusal(target.disk, Obstacle.READ_ONLY)

    def _elsewhere(self, index: int) -> Target | None:
        others = [target for other, target in enumerate(self._at) if other != index]
        worth_a_try = [
            target
            for target in self._targets
            if target.disk not in self._failed_disks and target.node not in self._failed_nodes
        ]
        return replacement(self._stripe, index, self._encoded.coding, others, worth_a_try)

    async def _put(self, index: int, target: Target) -> None:
        try:
            await self._put_once(index, target)
        except _WORTH_REPEATING:
            # Repeating is harmless, and here it is likely to find the shard stored.
            await self._put_once(index, target)

    async def _put_once(self, index: int, target: Target) -> None:
        place = self._store.cluster.place(target.disk)
        if place is None:
            raise PeerUnreachable(f"Disk {target.disk} is not known.")
        identity = ShardIdentity(self._stripe, index, 0)
        encoded = self._encoded
        crc, shard = encoded.shard_crcs[index], encoded.shards[index]
        if encoded.shard_bytes <= SMALL_SHARD_BYTES_MAX:
            put = ShardPut(
                disk=place.uuid,
                identity=identity,
                coding=encoded.coding,
                crc=crc,
                size_bytes=encoded.shard_bytes,
            )
            await self._store.batches.put(place.url, put, shard)
            return
        await self._store.blobs.put_shard(
            place.url,
            place.uuid,
            identity,
            encoded.coding,
            shard,
            crc,
            deadline_s=self._store.settings.shard_deadline_s,
        )


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    """End the tasks that still run; what they raise was theirs to note."""
    running = [task for task in tasks if not task.done()]
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running)
