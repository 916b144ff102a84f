"""The blob daemon's HTTP (`blobd.wire`): parse, bound, hand to the disk, answer.

A request takes its bytes from the process's budget before its body is read, and returns
them when the disk is done with them and the answer has left (SAFETY rule 25).
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from blobd.disks import Disks
from blobd.record import KEY_BYTES, identity_key, is_temp
from blobd.shardstore import ShardStore
from blobd.times import ShardTimes
from blobd.wire import (
    BATCH_BYTES_MAX,
    BLOCK_CRCS_HEADER,
    CODING_HEADER,
    CRC_HEADER,
    RECHECK_ROWS_MAX,
    SHARD_BYTES_MAX,
    VERIFIED_ASKED_MAX,
    BatchReply,
    CensusAsked,
    InventoryPage,
    InventoryRow,
    LastVerified,
    Recheck,
    Rechecked,
    ScrubObeyed,
    ScrubOrder,
    ShardOutcome,
    ShardPut,
    Status,
    SweepPage,
    WhenVerified,
    parse_coding,
    unpack_batch,
)
from osscore.errors import (
    BadDigest,
    CorruptShard,
    EntityTooLarge,
    InvalidArgument,
    InvalidRange,
    LengthRequired,
    NoSuchShard,
    StoreError,
)
from osscore.model import ShardIdentity
from osscore.names import StripeId
from ossd.budget import ByteBudget
from ossd.disk import Bytes
from ossd.http import InternalHandler

INVENTORY_ROWS_MAX: Final = 10_000
# Heads of a batch, over and above the shards themselves: at most this for each.
_BATCH_HEADS_BYTES_MAX: Final = 1024 * 1024
_DISK = r"/v1/disks/([0-9a-f]{32})"
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{1,18})?")
_CRC = re.compile(r"[0-9a-fA-F]{8}")


@dataclass(frozen=True, slots=True)
class Shared:
    """What all requests of a daemon work with."""

    disks: Disks
    budget: ByteBudget
    times: ShardTimes
    status: Callable[[], Status]
    recheck: Callable[[bytes, Sequence[int]], Awaitable[Rechecked]]
    """Of which disk, which stripes' rows."""
    sweep: Callable[[bytes, bytes, bool], Awaitable[SweepPage]]
    """Of which disk, behind which identity, and whether it is a dry run."""
    ask_census: Callable[[bytes], int]
    """Of which disk; answers when that was."""
    order_scrub: Callable[[bytes, str], Awaitable[int]]
    """Of which disk, and what to do; answers when it began."""
    last_verified: Callable[[bytes, Sequence[ShardIdentity]], tuple[int, ...]]
    """Of which disk, which shards; blocks."""


def routes(shared: Shared) -> list[Any]:
    """Everything but the health paths, for `ossd.http.serve`."""
    given = {"shared": shared}
    return [
        (_DISK + r"/shards/([0-9a-f]{32})/(\d{1,3})/(\d{1,20})", ShardHandler, given),
        (r"/v1/shards", BatchHandler, given),
        (_DISK + r"/inventory", InventoryHandler, given),
        (_DISK + r"/recheck", RecheckHandler, given),
        (_DISK + r"/sweep", SweepHandler, given),
        (_DISK + r"/census", CensusHandler, given),
        (_DISK + r"/scrub", ScrubHandler, given),
        (_DISK + r"/verified", VerifiedHandler, given),
        (r"/v1/status", StatusHandler, given),
    ]


class BoundedHandler(InternalHandler):
    """A signed request whose body is counted against the budget from its headers on."""

    api = "shards"

    def initialize(self, shared: Shared) -> None:
        """Tornado's call with the route's arguments."""
        self.shared = shared
        self._taken_bytes = 0
        self._is_working = False

    async def _begin(self) -> None:
        if self.request.method in ("PUT", "POST"):
            if self._declared_bytes is None or "Content-Length" not in self.request.headers:
                raise LengthRequired()
            await self.take(self._declared_bytes)

    async def take(self, size_bytes: int) -> None:
        """Reserve bytes for this request. Raises Overloaded."""
        await self.shared.budget.take(size_bytes)
        self._taken_bytes = size_bytes
        if self._observed:  # the client left while this waited
            self._return_bytes()

    @contextmanager
    def working(self) -> Iterator[None]:
        """While inside, the bytes stay taken even if the client leaves: they are in use."""
        self._is_working = True
        try:
            yield
        finally:
            self._is_working = False
            if self._observed:
                self._return_bytes()

    def _observe(self, status: int) -> None:
        super()._observe(status)
        if not self._is_working:
            self._return_bytes()

    def _return_bytes(self) -> None:
        self.shared.budget.give(self._taken_bytes)
        self._taken_bytes = 0
        self.body = b""


class ShardHandler(BoundedHandler):
    """One shard on one disk."""

    body_bytes_max = SHARD_BYTES_MAX

    async def put(self, disk: str, stripe: str, index: str, gen: str) -> None:
        """Store it, durable when answered: 201 new, 200 the same was there."""
        identity = parse_identity(stripe, index, gen)
        coding = parse_coding(self.request.headers.get(CODING_HEADER, ""))
        crc = parse_crc(self.request.headers.get(CRC_HEADER, ""))
        store = self.shared.disks.by_uuid(bytes.fromhex(disk)).writable_store
        began_s = self.shared.times.start_s()
        with self.working():
            is_new = await store.put(identity, coding, crc, self.body)
        self.shared.times.observe("put", began_s)
        self.set_status(201 if is_new else 200)

    async def get(self, disk: str, stripe: str, index: str, gen: str) -> None:
        """The shard or a range of it, verified as it was read."""
        identity = parse_identity(stripe, index, gen)
        wanted = parse_range(self.request.headers.get("Range"))
        store = self.shared.disks.by_uuid(bytes.fromhex(disk)).store
        await self.take(bytes_of_read(store, identity, wanted))
        with self.working():
            began_s = self.shared.times.start_s()
            read = await store.get(identity, first=wanted.first, length=wanted.length)
            self.shared.times.observe("get", began_s)
            self._describe(read.crc)
            if wanted.is_partial:
                last = wanted.first + len(read.body) - 1
                self.set_status(206)
                self.set_header("Content-Range", f"bytes {wanted.first}-{last}/{read.size_bytes}")
            self.set_header(BLOCK_CRCS_HEADER, "".join(f"{crc:08x}" for crc in read.block_crcs))
            await self.reply_body(read.body)

    def head(self, *path: str, **_: str) -> None:
        """Length and CRC by the index, not verified."""
        disk, stripe, index, gen = path
        store = self.shared.disks.by_uuid(bytes.fromhex(disk)).store
        found = store.head(parse_identity(stripe, index, gen))
        if found is None:
            raise NoSuchShard()
        size_bytes, crc = found
        self._describe(crc)
        self.set_header("Content-Length", size_bytes)

    def _describe(self, crc: int) -> None:
        self.set_header("Content-Type", "application/octet-stream")
        self.set_header(CRC_HEADER, f"{crc:08x}")


class BatchHandler(BoundedHandler):
    """Several shards of this daemon in one request."""

    body_bytes_max = BATCH_BYTES_MAX + _BATCH_HEADS_BYTES_MAX

    async def post(self) -> None:
        """Store them with one group commit a disk; every shard has an outcome of its own."""
        items = unpack_batch(self.body)
        began_s = self.shared.times.start_s()
        outcomes = [ShardOutcome()] * len(items)
        by_disk: dict[bytes, list[int]] = {}
        for position, (put, _) in enumerate(items):
            by_disk.setdefault(put.disk, []).append(position)

        async def store(uuid: bytes, positions: list[int]) -> None:
            mine = [items[position] for position in positions]
            for position, outcome in zip(positions, await self._store(uuid, mine), strict=True):
                outcomes[position] = outcome

        with self.working():
            await asyncio.gather(*(store(*each) for each in by_disk.items()))
        self.shared.times.observe("put_batch", began_s)
        self.reply(BatchReply(outcomes=tuple(outcomes)))

    async def _store(
        self, uuid: bytes, items: Sequence[tuple[ShardPut, memoryview]]
    ) -> list[ShardOutcome]:
        """All shards of one disk. What goes wrong is an outcome, never an exception."""
        accepted: list[tuple[ShardIdentity, Any, int, Bytes]] = []
        outcomes: list[ShardOutcome | None] = []
        for put, body in items:
            refusal = _refusal_of(put)
            outcomes.append(None if refusal is None else _outcome(refusal))
            if refusal is None:
                accepted.append((put.identity, put.coding, put.crc, body))
        try:
            store = self.shared.disks.by_uuid(uuid).writable_store
            results: Sequence[bool | StoreError] = await store.put_many(accepted)
        except StoreError as error:
            results = [error] * len(accepted)
        remaining = iter(results)
        return [outcome or _outcome(next(remaining)) for outcome in outcomes]


class InventoryHandler(BoundedHandler):
    """What a disk holds."""

    async def get(self, disk: str) -> None:
        """One page in order of (stripe, index, gen), behind `after`."""
        store = self.shared.disks.by_uuid(bytes.fromhex(disk)).store
        after = parse_cursor(self.get_query_argument("after", ""))
        limit = parse_limit(self.get_query_argument("limit", "1000"))
        rows = await asyncio.to_thread(store.inventory, after, limit)
        end = identity_key(rows[-1][0]).hex() if len(rows) == limit else ""
        self.reply(InventoryPage(rows=tuple(InventoryRow(*row) for row in rows), next=end))


class RecheckHandler(BoundedHandler):
    """A hint that shards of this disk may not be what the catalog believes."""

    async def post(self, disk: str) -> None:
        """Reread them now."""
        rows = self.decode(Recheck).rows
        if not 1 <= len(rows) <= RECHECK_ROWS_MAX or not all(0 < row < 2**63 for row in rows):
            raise InvalidArgument(f"A hint names 1 to {RECHECK_ROWS_MAX} rows of stripes.")
        self.reply(await self.shared.recheck(bytes.fromhex(disk), rows))


class SweepHandler(BoundedHandler):
    """The disk looked through for shards that nobody can name any more."""

    async def post(self, disk: str) -> None:
        """One page, behind `after`."""
        after = parse_cursor(self.get_query_argument("after", ""))
        is_dry_run = self.get_query_argument("dry_run", "0") != "0"
        self.reply(await self.shared.sweep(bytes.fromhex(disk), after, is_dry_run))


class CensusHandler(BoundedHandler):
    """The disk compared with the catalog."""

    async def post(self, disk: str) -> None:
        """Have it begin; what it finds is told by heartbeats."""
        self.reply(CensusAsked(asked_at_ms=self.shared.ask_census(bytes.fromhex(disk))))


class ScrubHandler(BoundedHandler):
    """The rereading of a disk."""

    async def post(self, disk: str) -> None:
        """Begin a pass, pause or go on; how it goes is told by heartbeats."""
        action = self.decode(ScrubOrder).action
        began_at_ms = await self.shared.order_scrub(bytes.fromhex(disk), action)
        self.reply(ScrubObeyed(began_at_ms=began_at_ms))


class VerifiedHandler(BoundedHandler):
    """When shards of the disk were last reread."""

    async def post(self, disk: str) -> None:
        """For each that is asked for; nothing is read."""
        identities = self.decode(WhenVerified).identities
        if not 1 <= len(identities) <= VERIFIED_ASKED_MAX:
            raise InvalidArgument(f"Ask for 1 to {VERIFIED_ASKED_MAX} shards.")
        for identity in identities:
            check_identity(identity)
        uuid = bytes.fromhex(disk)
        ms_ago = await asyncio.to_thread(self.shared.last_verified, uuid, identities)
        self.reply(LastVerified(ms_ago=ms_ago))


class StatusHandler(BoundedHandler):
    """The daemon and its disks, for people and `ossctl`."""

    async def get(self) -> None:
        """JSON Status."""
        self.reply_json(await asyncio.to_thread(self.shared.status))


# --- parsing -------------------------------------------------------------------------------


def parse_identity(stripe: str, index: str, gen: str) -> ShardIdentity:
    """The shard a path names. Raises InvalidArgument."""
    identity = ShardIdentity(stripe=StripeId(bytes.fromhex(stripe)), index=int(index), gen=int(gen))
    check_identity(identity)
    return identity


def check_identity(identity: ShardIdentity) -> None:
    """Raises InvalidArgument unless a record can carry that identity."""
    fits = len(identity.stripe) == 16 and 0 <= identity.index < 256 and 0 <= identity.gen < 2**63
    if not fits or is_temp(identity.stripe):
        raise InvalidArgument("A shard has a stripe of 16 bytes, an index below 256 and a gen.")


def parse_crc(text: str) -> int:
    """Eight hex digits. Raises BadDigest: without its CRC a shard is never stored."""
    if not _CRC.fullmatch(text):
        raise BadDigest(f"The header {CRC_HEADER} must hold 8 hex digits.")
    return int(text, 16)


@dataclass(frozen=True, slots=True)
class WantedRange:
    """Bytes [first, first + length) of a shard; `length` None: to its end."""

    first: int = 0
    length: int | None = None
    is_partial: bool = False


def parse_range(header: str | None) -> WantedRange:
    """What a Range header asks for. Raises InvalidRange for anything but one range."""
    if header is None:
        return WantedRange()
    found = _RANGE.fullmatch(header)
    if found is None:
        raise InvalidRange(f"The range {header[:60]!r} is not understood.")
    first = int(found[1])
    length = int(found[2]) + 1 - first if found[2] else None
    if length is not None and length < 1:
        raise InvalidRange("A range ends behind its first byte.")
    return WantedRange(first, length, is_partial=True)


def bytes_of_read(store: ShardStore, identity: ShardIdentity, wanted: WantedRange) -> int:
    """How many bytes a read will hold, at most. Raises NoSuchShard."""
    try:
        head = store.head(identity)
    except CorruptShard:  # blocks of it may be good, and are still served
        head = (SHARD_BYTES_MAX, 0)
    if head is None:
        raise NoSuchShard()
    left_bytes = max(head[0] - wanted.first, 0)
    return left_bytes if wanted.length is None else min(left_bytes, wanted.length)


def parse_cursor(text: str) -> bytes:
    """The `after` of an inventory page. Raises InvalidArgument."""
    try:
        after = bytes.fromhex(text)
    except ValueError as error:
        raise InvalidArgument("The cursor `after` is not hexadecimal.") from error
    if len(after) not in (0, KEY_BYTES):
        raise InvalidArgument("The cursor `after` is not one this daemon gave.")
    return after


def parse_limit(text: str) -> int:
    """Rows of a page. Raises InvalidArgument."""
    if not text.isdecimal() or not 1 <= int(text[:9]) <= INVENTORY_ROWS_MAX:
        raise InvalidArgument(f"`limit` lies between 1 and {INVENTORY_ROWS_MAX}.")
    return int(text)


def _refusal_of(put: ShardPut) -> StoreError | None:
    """Why a shard of a batch is refused on its head alone."""
    if put.size_bytes > SHARD_BYTES_MAX:
        return EntityTooLarge(f"A shard has at most {SHARD_BYTES_MAX} bytes.")
    try:
        check_identity(put.identity)
    except InvalidArgument as error:
        return error
    return None


def _outcome(result: bool | StoreError) -> ShardOutcome:
    if isinstance(result, StoreError):
        return ShardOutcome(error=result.code, message=result.message)
    return ShardOutcome()
