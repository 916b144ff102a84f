"""Every shard of every stripe fetched and compared with the catalog's CRC, one bounded step.

A stripe that several objects share is looked at once, by its row. What differs from what the
catalog believes is told to the owner, who rereads and says so itself (SAFETY rule 11). With
repair, missing and corrupt shards are rebuilt and put back to their own slots' disks; a slot
whose disk is away stays as it is. Foreground first: a scan takes only memory nobody waits for.
Behind the last stripe come the bodies that the catalog keeps itself (`scan_inline`).
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from frontend.flows.damage import WRITTEN
from frontend.flows.scan_inline import PAGE_BYTES_MAX, InlineScanned, scan_inline_page
from frontend.flows.shard_read import ShardReader
from frontend.flows.store import Store
from frontend.flows.write_back import hint, put_back, same_place
from osscore.errors import CorruptShard, NoSuchShard, Overloaded, StoreError
from osscore.model import ShardIdentity, Slot, SlotState, Stripe, VersionInfo
from raftmeta.queries import FindOwners, ListStripes, ObjectsFound, StripesListed

STRIPES_MAX = 64
"""Stripes of one step."""
STEP_BYTES_MAX = 256 * 1024 * 1024
"""A step ends behind the stripes with which it has fetched this much."""
STEP_S_MAX = 10.0
AT_ONCE = 8
"""Stripes looked at together, unless they are large."""
AT_ONCE_BYTES = 32 * 1024 * 1024
OWNERS_MAX = 10
SHARE_MAX = 0.5
"""The part of the process's memory for bodies that may be in use once a scan took its own."""
WAIT_S = 0.05
WAITS_MAX = 100
_ROW_MAX = (1 << 63) - 1

GOOD, MISSING, CORRUPT, UNREACHABLE = "good", "missing", "corrupt", "unreachable"
REPAIRED, CONFIRMED, NOT_TRIED, UNCONFIRMED = "repaired", "confirmed", "not tried", "unconfirmed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanStep:
    """Which stripes: behind row `after_row`, of the whole store or of a bucket's objects. With
    `after_inline`: no more stripes, only the catalog's own bodies behind that version's id."""

    after_row: int = 0
    after_inline: int | None = None
    bucket: str = ""
    prefix: str = ""
    repairs: bool = False


@dataclass(frozen=True, slots=True)
class ShardFinding:
    """One shard that is not as it should be. `found`: missing, corrupt, unreachable, or good
    although the catalog did not think so. `outcome`: repaired, confirmed (the catalog knows
    now that it is good), unconfirmed (written, but its owner has not said so), not tried, or
    why it was not mended: an error's code, or too few shards."""

    slot: Slot
    found: str
    outcome: str


@dataclass(frozen=True, slots=True)
class StripeFinding:
    """A stripe with such shards. `good_count`: shards that were good before any repair.
    `owners`: some versions that cannot be read, where fewer than k shards are good now."""

    stripe: Stripe
    good_count: int
    shards: tuple[ShardFinding, ...]
    owners: tuple[VersionInfo, ...] = ()

    @property
    def is_readable(self) -> bool:
        """Whether k shards were good."""
        return self.good_count >= self.stripe.coding.data_count


@dataclass(slots=True)
class Scanned:
    """`shards`: how many were good, missing, corrupt, unreachable before any repair. `next_row`:
    the `after_row` of the next step, 0 when no stripe is left; `last_row`: the highest there is.
    `next_inline`: the `after_inline` of the next step, None at the end, and while stripes are left.
    """

    stripes: int = 0
    size_bytes: int = 0
    shards: Counter[str] = field(default_factory=Counter)
    findings: list[StripeFinding] = field(default_factory=list)
    next_row: int = 0
    last_row: int = 0
    inline: InlineScanned = field(default_factory=InlineScanned)
    next_inline: int | None = None

    def add(self, more: "Scanned") -> None:
        """Count what was found in another stripe."""
        self.stripes += more.stripes
        self.size_bytes += more.size_bytes
        self.shards.update(more.shards)
        self.findings += more.findings
        self.inline.add(more.inline)


async def scan_step(store: Store, step: ScanStep) -> Scanned:
    """Look at the next stripes, then bodies. Repeating a step is harmless.

    Raises NoSuchBucket, and Overloaded when requests leave no memory for a first of them.
    """
    end_s = store.clock.monotonic_s() + STEP_S_MAX
    scanned = Scanned()
    if step.after_inline is None:
        scanned = await _scan_stripes(store, step, end_s)
    if not scanned.next_row:
        await _scan_inline(store, step, scanned, end_s)
    return scanned


async def _scan_inline(store: Store, step: ScanStep, scanned: Scanned, end_s: float) -> None:
    """Pages of bodies until it is late. Raises Overloaded only where nothing else was done."""
    following = step.after_inline or 0
    is_first = not scanned.stripes
    while True:
        try:
            await _take_spare(store, PAGE_BYTES_MAX)
        except Overloaded:
            if is_first:
                raise
            scanned.next_inline = following
            return
        try:
            page, following = await scan_inline_page(
                store, following, bucket=step.bucket, prefix=step.prefix
            )
        finally:
            store.budget.give(PAGE_BYTES_MAX)
        scanned.inline.add(page)
        is_first = False
        if not following:
            return
        if store.clock.monotonic_s() > end_s:
            scanned.next_inline = following
            return


async def _scan_stripes(store: Store, step: ScanStep, end_s: float) -> Scanned:
    query = ListStripes(
        after_row=min(step.after_row, _ROW_MAX),
        limit=STRIPES_MAX,
        bucket=step.bucket,
        prefix=step.prefix,
    )
    page = await store.meta.query(query, StripesListed)
    await store.cluster.refresh()
    scanned = Scanned(last_row=page.last_row, next_row=step.after_row)
    for at, group in enumerate(_groups(page.stripes, step)):
        is_late = store.clock.monotonic_s() > end_s or scanned.size_bytes > STEP_BYTES_MAX
        if at and is_late:
            return scanned
        outcomes = await asyncio.gather(
            *(_scan_stripe(store, stripe, step) for stripe in group), return_exceptions=True
        )
        if at and any(isinstance(outcome, Overloaded) for outcome in outcomes):
            return scanned  # what was done counts; this group is the next step's
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
            scanned.add(outcome)
        scanned.next_row = group[-1].row
    scanned.next_row = page.next_row
    return scanned


async def _scan_stripe(store: Store, stripe: Stripe, step: ScanStep) -> Scanned:
    """Raises Overloaded, and what finding it in the catalog may raise."""
    cost_bytes = _cost_bytes(stripe, step)
    await _take_spare(store, cost_bytes)
    try:
        looked = await _look(store, stripe)
        if MISSING in looked.found.values():
            # It may have moved or ended since it was listed (SAFETY rule 3): once more.
            now = await _stripe_now(store, stripe.row)
            if now is None:
                return Scanned()
            if now != stripe:
                stripe, looked = now, await _look(store, now)
        finding = await _settle(store, stripe, looked, repairs=step.repairs)
    finally:
        store.budget.give(cost_bytes)
    return Scanned(
        stripes=1,
        size_bytes=stripe.shard_bytes * len(looked.good),
        shards=Counter(looked.found.values()),
        findings=[finding] if finding else [],
    )


def _cost_bytes(stripe: Stripe, step: ScanStep) -> int:
    """All shards, and as much again for those rebuilt from them."""
    return stripe.shard_bytes * stripe.coding.shard_count * (2 if step.repairs else 1)


def _groups(stripes: Sequence[Stripe], step: ScanStep) -> Iterator[list[Stripe]]:
    """Stripes to be looked at together: a scan must not wait for memory that it holds itself."""
    group: list[Stripe] = []
    size_bytes = 0
    for stripe in stripes:
        cost_bytes = _cost_bytes(stripe, step)
        if group and (len(group) == AT_ONCE or size_bytes + cost_bytes > AT_ONCE_BYTES):
            yield group
            group, size_bytes = [], 0
        group.append(stripe)
        size_bytes += cost_bytes
    if group:
        yield group


async def _take_spare(store: Store, cost_bytes: int) -> None:
    for _ in range(WAITS_MAX):
        if store.budget.try_take(cost_bytes, share_max=SHARE_MAX):
            return
        if not store.budget.used_bytes and store.budget.try_take(cost_bytes):
            return  # larger than its share, and nobody is there
        await store.clock.sleep(WAIT_S)
    raise Overloaded("Requests leave no memory for a scan now; try again.")


@dataclass(frozen=True, slots=True)
class _Looked:
    """What was found of each slot, and the whole good shards by index."""

    found: dict[Slot, str]
    good: dict[int, bytes]


async def _look(store: Store, stripe: Stripe) -> _Looked:
    reader = ShardReader(store, stripe)

    async def one(slot: Slot) -> tuple[str, bytes]:
        if not reader.is_living(slot):
            return UNREACHABLE, b""
        try:
            return GOOD, await reader.whole(slot)
        except NoSuchShard:
            return MISSING, b""
        except CorruptShard:
            return CORRUPT, b""
        except StoreError:
            return UNREACHABLE, b""

    answers = await asyncio.gather(*(one(slot) for slot in stripe.slots))
    pairs = list(zip(stripe.slots, answers, strict=True))
    return _Looked(
        found={slot: found for slot, (found, _) in pairs},
        good={slot.index: body for slot, (found, body) in pairs if found == GOOD},
    )


async def _settle(
    store: Store, stripe: Stripe, looked: _Looked, *, repairs: bool
) -> StripeFinding | None:
    """Mend what can be mended, tell the owners what is new; None: all was as it should be."""
    broken = [slot for slot, found in looked.found.items() if found in (MISSING, CORRUPT)]
    better = [s for s, f in looked.found.items() if f == GOOD and s.state is not SlotState.GOOD]
    away = [slot for slot, found in looked.found.items() if found == UNREACHABLE]
    if not (broken or better or away):
        return None
    outcomes = dict.fromkeys(broken, NOT_TRIED)
    if repairs and broken:
        outcomes = await _repair(store, stripe, broken, looked.good)
    owners_found = await hint(store, stripe.row, [*broken, *better])
    for slot in (*broken, *better):
        if owners_found.get(ShardIdentity(stripe.stripe, slot.index, slot.gen)) == GOOD:
            outcomes[slot] = CONFIRMED if slot in better else REPAIRED
        elif outcomes.get(slot, WRITTEN) == WRITTEN:
            outcomes[slot] = UNCONFIRMED
    shards = tuple(
        ShardFinding(slot, found, outcomes.get(slot, NOT_TRIED))
        for slot, found in looked.found.items()
        if slot in outcomes or slot in away
    )
    finding = StripeFinding(stripe, len(looked.good), shards)
    if finding.is_readable:
        return finding
    owners = await store.meta.query(FindOwners(row=stripe.row, limit=OWNERS_MAX), ObjectsFound)
    return StripeFinding(stripe, len(looked.good), shards, owners.versions)


async def _repair(
    store: Store, stripe: Stripe, broken: Sequence[Slot], good: dict[int, bytes]
) -> dict[Slot, str]:
    """Rebuild shards and put each back where it belongs; answers what became of each."""
    if len(good) < stripe.coding.data_count:
        return dict.fromkeys(broken, "too few shards")
    indexes = [slot.index for slot in broken]
    rebuilt = await store.off_loop(
        stripe.stored_bytes, store.codec.rebuild, stripe.coding, good, indexes
    )
    # Asked again right before writing: only a slot the stripe has now gets its bytes.
    now = await _stripe_now(store, stripe.row)
    is_same = now is not None and now.stripe == stripe.stripe
    slots = now.slots if now is not None and is_same else ()
    wanted = [slot for slot in broken if same_place(slots, slot)]
    written = await asyncio.gather(
        *(put_back(store, stripe, slot, rebuilt[slot.index]) for slot in wanted)
    )
    return dict.fromkeys(broken, "moved") | dict(zip(wanted, written, strict=True))


async def _stripe_now(store: Store, row: int) -> Stripe | None:
    listed = await store.meta.query(ListStripes(after_row=row - 1, limit=1), StripesListed)
    return next((stripe for stripe in listed.stripes if stripe.row == row), None)
