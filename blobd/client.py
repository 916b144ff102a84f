"""How other roles reach a blob daemon: one method a request of `blobd.wire`.

Every error is an `osscore.errors` class: those the daemon answered, and those of the way
there (PeerUnreachable, DeadlineExceeded, OutcomeUnknown). Bytes are verified on arrival,
so what `get_shard` returns is what the daemon read and checked.
"""

from collections.abc import Sequence
from urllib.parse import urlencode

import msgspec

from blobd.wire import (
    ADOPT,
    BATCH,
    BLOCK_CRCS_HEADER,
    CODING_HEADER,
    CRC_HEADER,
    READY,
    Adopt,
    Adopted,
    BatchReply,
    CensusAsked,
    InventoryPage,
    LastVerified,
    Recheck,
    Rechecked,
    ScrubObeyed,
    ScrubOrder,
    ShardOutcome,
    ShardPut,
    SweepPage,
    WhenVerified,
    coding_text,
    pack_batch,
    shard_path,
)
from osscore.digests import crc32c_blocks
from osscore.errors import CorruptShard, NoSuchShard, OutcomeUnknown, StoreError
from osscore.model import BLOCK_BYTES, Coding, ShardIdentity
from ossd.disk import Bytes
from ossd.rpc import Reply, Rpc, check

ADOPT_DEADLINE_S = 30 * 86400.0
"""Bounded by whoever asks: as long as the frontend reads on, it may take."""

_batch_reply = msgspec.msgpack.Decoder(BatchReply)
_inventory_page = msgspec.msgpack.Decoder(InventoryPage)
_rechecked = msgspec.msgpack.Decoder(Rechecked)
_census_asked = msgspec.msgpack.Decoder(CensusAsked)
_scrub_obeyed = msgspec.msgpack.Decoder(ScrubObeyed)
_last_verified = msgspec.msgpack.Decoder(LastVerified)
_sweep_page = msgspec.msgpack.Decoder(SweepPage)


class BlobClient:
    """Speaks to any number of blob daemons over one pool of connections.

    `url` is a daemon's base, without a slash at the end; `disk_uuid` 16 bytes.
    """

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    async def put_shard(
        self,
        url: str,
        disk_uuid: bytes,
        identity: ShardIdentity,
        coding: Coding,
        body: Bytes,
        crc: int,
        *,
        deadline_s: float,
    ) -> None:
        """Store one shard; durable on return. `crc`: CRC32C of `body`. Repeating it is harmless.

        Raises BadDigest (damaged on the way), ShardConflict, NoSuchNode (no such disk),
        EntityTooLarge, DiskFull, DiskFailing, Overloaded, NotReady and those of the way.
        """
        headers = {CRC_HEADER: f"{crc:08x}", CODING_HEADER: coding_text(coding)}
        target = url + shard_path(disk_uuid, identity)
        check(
            await self._rpc.call(
                "PUT",
                target,
                body=body,
                headers=headers,
                deadline_s=deadline_s,
                idempotent=True,
            )
        )

    async def get_shard(
        self,
        url: str,
        disk_uuid: bytes,
        identity: ShardIdentity,
        *,
        first: int = 0,
        length: int | None = None,
        deadline_s: float,
    ) -> bytes:
        """Bytes [first, first + length) of a shard, verified; `length` None: to its end.

        `first` lies on a 64 KiB border. A range that passes the end gives what there is.
        Raises NoSuchShard, InvalidRange, CorruptShard (on its disk or on the way),
        DiskFailing, Overloaded and those of the way.
        """
        headers = _range_header(first, length)
        target = url + shard_path(disk_uuid, identity)
        reply = check(await self._rpc.call("GET", target, headers=headers, deadline_s=deadline_s))
        _verify_blocks(reply, f"Shard {identity.stripe.hex()}/{identity.index}/{identity.gen}")
        if length is not None and len(reply.body) > length:
            raise CorruptShard(f"A peer sent {len(reply.body)} bytes of a shard, not {length}.")
        return reply.body

    async def put_batch(
        self, url: str, puts: Sequence[tuple[ShardPut, bytes]], *, deadline_s: float
    ) -> tuple[ShardOutcome, ...]:
        """Store several shards of one daemon; answers one outcome for each, in order.

        The frame may have BATCH_BYTES_MAX bytes. Raises like put_shard where the batch as a
        whole failed; what became of a single shard is in its outcome.
        """
        frame = pack_batch([put for put, _ in puts], [body for _, body in puts])
        reply = check(
            await self._rpc.call(
                "POST", url + BATCH, body=frame, deadline_s=deadline_s, idempotent=True
            )
        )
        try:
            outcomes = _batch_reply.decode(reply.body).outcomes
        except msgspec.MsgspecError as error:
            raise OutcomeUnknown("A peer's answer to a batch is not readable.") from error
        if len(outcomes) != len(puts):
            raise OutcomeUnknown("A peer answered for another number of shards than were sent.")
        return outcomes

    async def head_shard(
        self, url: str, disk_uuid: bytes, identity: ShardIdentity, *, deadline_s: float
    ) -> tuple[int, int]:
        """(size in bytes, CRC32C) of a shard as its index has them, not verified.

        Raises NoSuchShard, also for an unknown disk: a HEAD answer cannot say which.
        """
        target = url + shard_path(disk_uuid, identity)
        reply = await self._rpc.call("HEAD", target, deadline_s=deadline_s)
        if reply.status == 404:
            raise NoSuchShard()
        headers = check(reply).headers
        try:
            return int(headers["Content-Length"]), int(headers[CRC_HEADER], 16)
        except (KeyError, ValueError) as error:
            raise OutcomeUnknown("A peer's answer to HEAD lacks size or CRC.") from error

    async def inventory(
        self,
        url: str,
        disk_uuid: bytes,
        after: str = "",
        limit: int = 1000,
        *,
        deadline_s: float,
    ) -> InventoryPage:
        """One page of what a disk holds, behind the cursor `after` (a page's `next`)."""
        target = f"{url}/v1/disks/{disk_uuid.hex()}/inventory?after={after}&limit={limit}"
        reply = check(await self._rpc.call("GET", target, deadline_s=deadline_s))
        try:
            return _inventory_page.decode(reply.body)
        except msgspec.MsgspecError as error:
            raise OutcomeUnknown("A peer's inventory is not readable.") from error

    async def recheck(
        self, url: str, disk_uuid: bytes, rows: Sequence[int], *, deadline_s: float
    ) -> Rechecked:
        """Have the owner reread its shards of these stripes, RECHECK_ROWS_MAX at most, and tell
        the catalog what it found. Repeating it is harmless.

        Raises InvalidArgument, NoSuchNode, DiskRefused, NotReady, Overloaded, those of the
        owner's way to the catalog, and those of the way there.
        """
        body = msgspec.msgpack.encode(Recheck(rows=tuple(rows)))
        target = f"{url}/v1/disks/{disk_uuid.hex()}/recheck"
        reply = check(
            await self._rpc.call("POST", target, body=body, deadline_s=deadline_s, idempotent=True)
        )
        try:
            return _rechecked.decode(reply.body)
        except msgspec.MsgspecError as error:
            raise OutcomeUnknown("A peer's answer to a hint is not readable.") from error

    async def sweep(
        self, url: str, disk_uuid: bytes, after: str, *, is_dry_run: bool, deadline_s: float
    ) -> SweepPage:
        """Have one page of a disk swept, behind the cursor `after` (a page's `next`).

        Raises InvalidArgument, NoSuchNode, StaleOrder, DiskRefused, NotReady, DiskFailing and
        those of the way.
        """
        # The cursor comes from whoever asked for the sweep: it must not become other arguments.
        asked = urlencode({"after": after, "dry_run": int(is_dry_run)})
        target = f"{url}/v1/disks/{disk_uuid.hex()}/sweep?{asked}"
        reply = check(await self._rpc.call("POST", target, deadline_s=deadline_s, idempotent=True))
        try:
            return _sweep_page.decode(reply.body)
        except msgspec.MsgspecError as error:
            raise OutcomeUnknown("A peer's answer to a sweep is not readable.") from error

    async def ask_census(self, url: str, disk_uuid: bytes, *, deadline_s: float) -> CensusAsked:
        """Have a disk's slots and shards compared at once. Repeating it is harmless.

        Raises NoSuchNode, DiskRefused, NotReady, DiskFailing and those of the way.
        """
        target = f"{url}/v1/disks/{disk_uuid.hex()}/census"
        reply = check(await self._rpc.call("POST", target, deadline_s=deadline_s, idempotent=True))
        try:
            return _census_asked.decode(reply.body)
        except msgspec.MsgspecError as error:
            raise OutcomeUnknown("A peer's answer to a census is not readable.") from error

    async def order_scrub(
        self, url: str, disk_uuid: bytes, action: str, *, deadline_s: float
    ) -> ScrubObeyed:
        """Have a disk's scrub do one of SCRUB_ACTIONS. Repeating it is harmless.

        Raises InvalidArgument, NoSuchNode, DiskRefused, NotReady, DiskFailing and those of the
        way.
        """
        body = msgspec.msgpack.encode(ScrubOrder(action=action))
        target = f"{url}/v1/disks/{disk_uuid.hex()}/scrub"
        reply = check(
            await self._rpc.call("POST", target, body=body, deadline_s=deadline_s, idempotent=True)
        )
        try:
            return _scrub_obeyed.decode(reply.body)
        except msgspec.MsgspecError as error:
            raise OutcomeUnknown("A peer's answer to a scrub is not readable.") from error

    async def last_verified(
        self,
        url: str,
        disk_uuid: bytes,
        identities: Sequence[ShardIdentity],
        *,
        deadline_s: float,
    ) -> tuple[int, ...]:
        """How many ms ago each shard was last reread and good; -1: not since it was written.

        At most VERIFIED_ASKED_MAX of them. Raises InvalidArgument, NoSuchNode, NotReady,
        DiskFailing and those of the way.
        """
        body = msgspec.msgpack.encode(WhenVerified(identities=tuple(identities)))
        target = f"{url}/v1/disks/{disk_uuid.hex()}/verified"
        reply = check(
            await self._rpc.call("POST", target, body=body, deadline_s=deadline_s, idempotent=True)
        )
        try:
            ms_ago = _last_verified.decode(reply.body).ms_ago
        except msgspec.MsgspecError as error:
            raise OutcomeUnknown("A peer's answer on rereading is not readable.") from error
        if len(ms_ago) != len(identities):
            raise OutcomeUnknown("A peer answered for another number of shards than were asked.")
        return ms_ago

    async def is_ready(self, url: str, *, deadline_s: float) -> bool:
        """Whether the daemon answers now that it serves."""
        try:
            reply = await self._rpc.call("GET", url + READY, deadline_s=deadline_s)
        except StoreError:
            return False
        return reply.status == 200

    async def get_temp_piece(
        self, url: str, temp: bytes, number: int, *, deadline_s: float
    ) -> bytes:
        """Piece `number` of a temp, verified.

        Raises NoSuchUpload, NoSuchShard (it has no such piece), CorruptShard, DiskFailing,
        Overloaded and those of the way.
        """
        target = f"{url}/v1/temps/{temp.hex()}/pieces/{number}"
        reply = check(await self._rpc.call("GET", target, deadline_s=deadline_s))
        _verify_blocks(reply, f"Piece {number} of {temp.hex()}")
        return reply.body

    async def ask_to_adopt(self, url: str, adopt: Adopt) -> Adopted:
        """Have the frontend at `url` take in a temp of ours; takes as long as it takes.

        Asking again is harmless. Raises what a PUT would and those of the way.
        """
        reply = check(
            await self._rpc.call(
                "POST",
                url + ADOPT,
                body=msgspec.msgpack.encode(adopt),
                deadline_s=ADOPT_DEADLINE_S,
                idempotent=True,
            )
        )
        try:
            return msgspec.msgpack.decode(reply.body, type=Adopted)
        except msgspec.MsgspecError as error:
            raise OutcomeUnknown("A frontend's answer to an adoption is not readable.") from error


def _range_header(first: int, length: int | None) -> dict[str, str]:
    if length is not None:
        return {"Range": f"bytes={first}-{first + length - 1}"}
    return {"Range": f"bytes={first}-"} if first else {}


def _verify_blocks(reply: Reply, what: str) -> None:
    """Recheck every 64 KiB (SAFETY rule 6): TCP's own checksum misses what memory flips."""
    listed = reply.headers.get(BLOCK_CRCS_HEADER, "")
    found = "".join(f"{crc:08x}" for crc in crc32c_blocks(reply.body, BLOCK_BYTES))
    if listed.lower() != found:
        raise CorruptShard(f"{what} arrived damaged.")
