import asyncio
from collections.abc import Mapping, Sequence

import msgspec
import pytest

from blobd.client import BlobClient
from blobd.wire import (
    BLOCK_CRCS_HEADER,
    CODING_HEADER,
    CRC_HEADER,
    BatchReply,
    InventoryPage,
    InventoryRow,
    ShardOutcome,
    ShardPut,
    unpack_batch,
)
from osscore.digests import crc32c
from osscore.errors import (
    BadDigest,
    CorruptShard,
    DiskFull,
    InvalidRange,
    NoSuchShard,
    OutcomeUnknown,
    ShardConflict,
    StoreError,
)
from osscore.model import BLOCK_BYTES, Profile, ShardIdentity, reed_solomon
from osscore.names import stripe_id
from ossd.envelope import error_body
from ossd.rpc import Reply

URL = "http://blob-1:9201"
DISK = b"d" * 16
CODING = reed_solomon(Profile(4, 2))
IDENTITY = ShardIdentity(stripe=stripe_id(1000, b"0123456789"), index=3, gen=9)
BODY = bytes(range(256)) * 600  # 153,600 bytes: two whole blocks and a short one


class ScriptedRpc:
    """An Rpc that gives one prepared reply and remembers what was asked."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.calls: list[tuple[str, str, bytes, dict[str, str]]] = []

    async def call(
        self,
        method: str,
        url: str,
        *,
        body: bytes | Sequence[bytes] = b"",
        headers: Mapping[str, str] | None = None,
        deadline_s: float,
        idempotent: bool = False,
    ) -> Reply:
        assert isinstance(body, bytes)
        self.calls.append((method, url, body, dict(headers or {})))
        return self.reply

    async def close(self) -> None:
        pass


def block_crcs(body: bytes) -> str:
    return "".join(
        f"{crc32c(body[at : at + BLOCK_BYTES]):08x}" for at in range(0, len(body), BLOCK_BYTES)
    )


def shard_reply(body: bytes, crcs: str | None = None, status: int = 200) -> Reply:
    crcs = block_crcs(body) if crcs is None else crcs
    return Reply(status, {BLOCK_CRCS_HEADER: crcs, CRC_HEADER: f"{crc32c(body):08x}"}, body)


def failure(error: StoreError) -> Reply:
    return Reply(error.http_status, {}, error_body(error, "r"))


def get(reply: Reply, **window: int) -> tuple[bytes, ScriptedRpc]:
    rpc = ScriptedRpc(reply)
    return asyncio.run(BlobClient(rpc).get_shard(URL, DISK, IDENTITY, deadline_s=5, **window)), rpc


def test_put_names_disk_shard_crc_and_coding():
    rpc = ScriptedRpc(Reply(201, {}, b""))
    put = BlobClient(rpc).put_shard(URL, DISK, IDENTITY, CODING, b"abc", 0x1234, deadline_s=5)
    asyncio.run(put)
    path = f"/v1/disks/{DISK.hex()}/shards/{IDENTITY.stripe.hex()}/3/9"
    headers = {CRC_HEADER: "00001234", CODING_HEADER: "rs-4-2"}
    assert rpc.calls == [("PUT", URL + path, b"abc", headers)]


@pytest.mark.parametrize("error", [BadDigest(), ShardConflict(), DiskFull(), NoSuchShard()])
def test_an_error_of_the_daemon_arrives_as_its_own_class(error: StoreError):
    rpc = ScriptedRpc(failure(error))
    with pytest.raises(type(error)):
        asyncio.run(BlobClient(rpc).put_shard(URL, DISK, IDENTITY, CODING, b"abc", 1, deadline_s=5))


def test_get_gives_verified_bytes():
    assert get(shard_reply(BODY))[0] == BODY
    assert get(shard_reply(b""))[0] == b""


def test_get_asks_for_the_window_it_needs():
    _, rpc = get(
        shard_reply(BODY[BLOCK_BYTES : 2 * BLOCK_BYTES], status=206),
        first=BLOCK_BYTES,
        length=BLOCK_BYTES,
    )
    assert rpc.calls[0][3] == {"Range": f"bytes={BLOCK_BYTES}-{2 * BLOCK_BYTES - 1}"}
    _, rpc = get(shard_reply(BODY[BLOCK_BYTES:], status=206), first=BLOCK_BYTES)
    assert rpc.calls[0][3] == {"Range": f"bytes={BLOCK_BYTES}-"}


@pytest.mark.parametrize("at", [0, BLOCK_BYTES, len(BODY) - 1])
def test_a_bit_flipped_on_the_way_is_noticed(at: int):
    damaged = bytearray(BODY)
    damaged[at] ^= 1
    with pytest.raises(CorruptShard):
        get(shard_reply(bytes(damaged), block_crcs(BODY)))


@pytest.mark.parametrize("crcs", ["", block_crcs(BODY)[:-8], block_crcs(BODY) + "00000000", "zz"])
def test_a_table_of_another_length_is_damage(crcs: str):
    with pytest.raises(CorruptShard):
        get(shard_reply(BODY, crcs))


def test_more_bytes_than_asked_for_are_damage():
    with pytest.raises(CorruptShard):
        get(shard_reply(BODY), length=BLOCK_BYTES)


def test_a_range_outside_carries_the_shard_size():
    with pytest.raises(InvalidRange) as caught:
        get(failure(InvalidRange(size_bytes=77)), first=BLOCK_BYTES)
    assert caught.value.size_bytes == 77


def test_batch_sends_all_and_answers_each():
    outcomes = (ShardOutcome(), ShardOutcome(error="DiskFull", message="no room"))
    rpc = ScriptedRpc(Reply(200, {}, msgspec.msgpack.encode(BatchReply(outcomes=outcomes))))
    puts = [
        (ShardPut(disk=DISK, identity=IDENTITY, coding=CODING, crc=1, size_bytes=len(body)), body)
        for body in (b"one", b"three")
    ]
    assert asyncio.run(BlobClient(rpc).put_batch(URL, puts, deadline_s=5)) == outcomes
    assert [bytes(body) for _, body in unpack_batch(rpc.calls[0][2])] == [b"one", b"three"]


@pytest.mark.parametrize("body", [b"", msgspec.msgpack.encode(BatchReply(outcomes=()))])
def test_a_batch_answer_that_fits_not_leaves_the_outcome_unknown(body: bytes):
    put = ShardPut(disk=DISK, identity=IDENTITY, coding=CODING, crc=1, size_bytes=1)
    with pytest.raises(OutcomeUnknown):
        asyncio.run(
            BlobClient(ScriptedRpc(Reply(200, {}, body))).put_batch(
                URL, [(put, b"x")], deadline_s=5
            )
        )


def test_head_gives_size_and_crc_or_says_that_there_is_none():
    found = Reply(200, {"Content-Length": "153600", CRC_HEADER: "0000abcd"}, b"")
    client = BlobClient(ScriptedRpc(found))
    assert asyncio.run(client.head_shard(URL, DISK, IDENTITY, deadline_s=5)) == (153600, 0xABCD)
    with pytest.raises(NoSuchShard):
        client = BlobClient(ScriptedRpc(Reply(404, {}, b"")))
        asyncio.run(client.head_shard(URL, DISK, IDENTITY, deadline_s=5))


def test_inventory_pages_are_asked_for_by_cursor():
    page = InventoryPage(rows=(InventoryRow(IDENTITY, 5, 6),), next="ab")
    rpc = ScriptedRpc(Reply(200, {}, msgspec.msgpack.encode(page)))
    assert asyncio.run(BlobClient(rpc).inventory(URL, DISK, "cd", 7, deadline_s=5)) == page
    assert rpc.calls[0][1] == f"{URL}/v1/disks/{DISK.hex()}/inventory?after=cd&limit=7"
