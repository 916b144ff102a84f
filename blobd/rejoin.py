"""A disk that came back as an older state of itself: compared with the catalog, then readmitted.

Such a disk was refused at registering and serves reads only (SAFETY rule 15). Once nobody was
heard of who writes to it, this daemon claims the comparison, looks up every slot that the
catalog has there, tells which good ones are not there or of other bytes, and is granted an
epoch again. What the disk has and the catalog does not know is left to the sweep. An attempt
that is cut off anywhere begins anew under a claim of its own; the catalog keeps none but the
last (`raftmeta.catalog.apply_rejoin`).
"""

import asyncio
import logging
from dataclasses import dataclass

from blobd.census import agrees
from blobd.disks import DataDisk, Disks
from blobd.membership import NodeAddress
from osscore.errors import Conflict, RequestError, StoreError
from osscore.model import ShardIdentity, SlotState
from ossd.clock import Clock, RandomBytes
from raftmeta.client import MetaClient
from raftmeta.commands import Done, NodeRegistered
from raftmeta.queries import (
    ClusterDescribed,
    DiskInfo,
    ExpectedSlot,
    ExpectedSlots,
    GetCluster,
    SlotsExpected,
)
from raftmeta.rejoining import ABSENT_AT_ONCE, BeginRejoin, CompareSlots, FinishRejoin

PAGE_ROWS = 200
LOOK_S = 0.5
RETRY_S = 2.0
QUIET_BEATS = 15
"""For so many heartbeats nobody else may have been heard writing to it before it is claimed."""
CLAIM_BYTES = 16

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Attempt:
    """A comparison under way. `slot_count` of about `slot_total` slots were compared."""

    claim: bytes
    generation: int
    disk: int
    slot_total: int
    after_row: int = 0
    is_done: bool = False
    slot_count: int = 0
    absent_count: int = 0


class Rejoin:
    """Looks after one disk. `run` never ends; cancel it."""

    def __init__(
        self,
        target: DataDisk,
        *,
        disks: Disks,
        address: NodeAddress,
        meta: MetaClient,
        clock: Clock,
        random: RandomBytes,
        heartbeat_s: float,
        slots_per_s: int = 5000,
    ) -> None:
        self._target = target
        self._disks = disks
        self._address = address
        self._meta = meta
        self._clock = clock
        self._random = random
        self._quiet_s = QUIET_BEATS * heartbeat_s
        self._slots_per_s = slots_per_s
        self._quiet_since_s: float | None = None
        self._attempt: _Attempt | None = None

    @property
    def progress(self) -> tuple[int, int] | None:
        """Slots compared, and about how many there are; None while none are compared."""
        attempt = self._attempt
        return (attempt.slot_count, attempt.slot_total) if attempt is not None else None

    async def run(self) -> None:
        """Attempt after attempt while the disk is an older state of itself."""
        while True:
            if not self._target.is_set_back:
                self._attempt = self._quiet_since_s = None
                await self._clock.sleep(LOOK_S)
                continue
            try:
                await self.step()
            except RequestError as error:
                self._attempt = None
                self._tell(error.message)
                await self._clock.sleep(RETRY_S)
            except (StoreError, OSError) as error:
                log.info("rejoin_paused", extra={"reason": str(error), **self._where()})
                await self._clock.sleep(RETRY_S)

    async def step(self) -> None:
        """The next piece of work. Raises StoreError, of which a RequestError ends the attempt."""
        described = await self._meta.query(GetCluster(), ClusterDescribed)
        known = self._require_alone(described)
        now_s = self._clock.monotonic_s()
        if self._quiet_since_s is None:
            self._quiet_since_s = now_s
        if now_s - self._quiet_since_s < self._quiet_s:
            self._tell("it is compared with the catalog once nobody else was heard writing to it")
            await self._clock.sleep(LOOK_S)
        elif self._attempt is None:
            await self._begin(described.generation, known)
        elif not self._attempt.is_done:
            await self._compare(self._attempt)
        else:
            await self._finish(self._attempt)

    # --- the steps ------------------------------------------------------------------------

    async def _begin(self, generation: int, known: DiskInfo) -> None:
        assert self._target.label is not None, "a disk that is set back was registered before"
        claim = self._random(CLAIM_BYTES)
        command = BeginRejoin(
            uuid=self._target.uuid,
            node=self._address.node,
            url=self._address.url,
            epoch=self._target.label.epoch + 1,
            claim=claim,
            generation=generation,
        )
        await self._meta.propose(command, Done)
        self._attempt = _Attempt(claim, generation, known.disk, known.slot_count)
        self._tell_progress(self._attempt)
        log.warning("rejoin_begun", extra={"slots": known.slot_count, **self._where()})

    async def _compare(self, attempt: _Attempt) -> None:
        query = ExpectedSlots(disk=attempt.disk, after_row=attempt.after_row, limit=PAGE_ROWS)
        head, page = await self._meta.query_with_head(query, SlotsExpected)
        if head.generation != attempt.generation:
            raise Conflict("The catalog is another generation by now.")
        absent = await self._absent(page.slots)
        through_row = max((slot.row for slot in page.slots), default=attempt.after_row)
        *former, last = [
            tuple(slot.identity for slot in absent[at : at + ABSENT_AT_ONCE])
            for at in range(0, max(len(absent), 1), ABSENT_AT_ONCE)
        ]
        for identities in former:  # all of a page is told before the page counts
            await self._propose_page(attempt, attempt.after_row, 0, identities)
        await self._propose_page(attempt, through_row, len(page.slots), last)
        attempt.after_row, attempt.is_done = through_row, not page.next_row
        attempt.slot_count += len(page.slots)
        attempt.absent_count += len(absent)
        self._tell_progress(attempt)
        await self._clock.sleep(len(page.slots) / self._slots_per_s)

    async def _finish(self, attempt: _Attempt) -> None:
        command = FinishRejoin(
            disk=attempt.disk, claim=attempt.claim, generation=attempt.generation
        )
        registered = await self._meta.propose(command, NodeRegistered)
        self._attempt = None
        (grant,) = registered.granted
        # Cut off before the label has the epoch, it stays behind the catalog: all begins anew.
        try:
            await self._target.keep_epoch(grant.epoch)
            await self._target.obey(attempt.generation)
        except OSError as error:
            self._target.refuse(f"the disk's label cannot be written: {error}")
            return
        self._target.readmit(grant.disk)
        extra = {"slots": attempt.slot_count, "absent": attempt.absent_count}
        log.warning("disk_readmitted", extra={**extra, **self._where()})

    # --- inside -----------------------------------------------------------------------------

    def _require_alone(self, described: ClusterDescribed) -> DiskInfo:
        """The catalog's word on the disk. Raises Conflict where it is, or may be, served by
        another. Ours is refused: whoever is heard to take writes there is not us."""
        if sum(found.uuid == self._target.uuid for found in self._disks) > 1:
            raise Conflict("Another folder here has the same uuid: keep the newer one alone.")
        known = next(
            (
                disk
                for node in described.nodes
                for disk in node.disks
                if disk.uuid == self._target.uuid
            ),
            None,
        )
        if known is None:
            raise Conflict("The catalog does not know the disk.")
        if known.writable and known.state != "lost":
            self._quiet_since_s = None
            raise Conflict("The disk it is a copy of takes writes: empty this folder to use it.")
        return known

    async def _absent(self, slots: tuple[ExpectedSlot, ...]) -> list[ExpectedSlot]:
        """Good slots that are not here, or not as the catalog knows them."""
        believed = [slot for slot in slots if slot.is_needed and slot.state == SlotState.GOOD]
        identities = [slot.identity for slot in believed]
        held = await asyncio.to_thread(self._target.store.held, identities)
        return [slot for slot in believed if not agrees(slot, held)]

    async def _propose_page(
        self,
        attempt: _Attempt,
        through_row: int,
        slot_count: int,
        absent: tuple[ShardIdentity, ...],
    ) -> None:
        command = CompareSlots(
            disk=attempt.disk,
            claim=attempt.claim,
            generation=attempt.generation,
            after_row=attempt.after_row,
            through_row=through_row,
            slot_count=slot_count,
            absent=absent,
        )
        await self._meta.propose(command, Done)

    def _tell_progress(self, attempt: _Attempt) -> None:
        self._target.note(
            f"being compared with the catalog: {attempt.slot_count} of about"
            f" {attempt.slot_total} slots, {attempt.absent_count} not there"
        )

    def _tell(self, note: str) -> None:
        """Log a change of what hinders, not every look."""
        if self._target.note(note):
            log.warning("rejoin_waits", extra={"reason": note, **self._where()})

    def _where(self) -> dict[str, object]:
        return {"uuid": self._target.uuid.hex(), "folder": str(self._target.folder)}
