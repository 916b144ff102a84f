"""The daemon's HTTP: what each request answers."""

from pathlib import Path

import msgspec
import pytest

from blobd.wire import (
    BLOCK_CRCS_HEADER,
    CODING_HEADER,
    CRC_HEADER,
    SHARD_BYTES_MAX,
    ShardPut,
    Status,
    shard_path,
)
from osscore.digests import crc32c
from osscore.errors import (
    BadDigest,
    CorruptShard,
    EntityTooLarge,
    InvalidArgument,
    InvalidRange,
    MalformedBody,
    NoSuchNode,
    NoSuchShard,
    ShardConflict,
    StoreError,
)
from osscore.model import BLOCK_BYTES, ShardIdentity
from ossd.envelope import parse_error
from ossd.rpc import check
from tests.blobd.parts import CODING, MIB, identity, run
from tests.blobd.served import BODY, put_head, refused, service
from tests.blobd.test_scrub import flip_bit_of


def test_a_shard_put_is_given_back_whole_and_in_parts(tmp_path: Path):
    async def story() -> None:
        async with service(tmp_path) as it:
            await it.put(identity(1), BODY)
            assert await it.get(identity(1)) == BODY
            assert await it.get(identity(1), first=BLOCK_BYTES) == BODY[BLOCK_BYTES:]
            assert (
                await it.get(identity(1), first=BLOCK_BYTES, length=BLOCK_BYTES)
                == BODY[BLOCK_BYTES : 2 * BLOCK_BYTES]
            )
            assert await it.get(identity(1), first=0, length=10) == BODY[:10]
            past_end = await it.get(identity(1), first=2 * BLOCK_BYTES, length=MIB)
            assert past_end == BODY[2 * BLOCK_BYTES :]
            found = await it.client.head_shard(it.url, it.disk.uuid, identity(1), deadline_s=10)
            assert found == (len(BODY), crc32c(BODY))

    run(story)


def test_put_says_201_for_a_new_shard_and_200_for_the_same_again(tmp_path: Path):
    async def story() -> None:
        async with service(tmp_path) as it:
            path = shard_path(it.disk.uuid, identity(1))
            headers = {CRC_HEADER: f"{crc32c(b'abc'):08x}", CODING_HEADER: "rs-2-1"}
            assert (await it.raw("PUT", path, b"abc", headers)).status == 201
            assert (await it.raw("PUT", path, b"abc", headers)).status == 200

    run(story)


def test_get_answers_in_the_documented_form(tmp_path: Path):
    async def story() -> None:
        async with service(tmp_path) as it:
            await it.put(identity(1), BODY)
            path = shard_path(it.disk.uuid, identity(1))
            whole = await it.raw("GET", path)
            assert whole.status == 200 and whole.headers[CRC_HEADER] == f"{crc32c(BODY):08x}"
            assert len(whole.headers[BLOCK_CRCS_HEADER]) == 3 * 8
            part = await it.raw("GET", path, headers={"Range": "bytes=65536-70000"})
            assert part.status == 206
            assert part.headers["Content-Range"] == f"bytes 65536-70000/{len(BODY)}"
            assert part.headers[CRC_HEADER] == f"{crc32c(BODY):08x}"
            assert part.headers[BLOCK_CRCS_HEADER] == f"{crc32c(part.body):08x}"

    run(story)


def test_every_refusal_has_its_own_class(tmp_path: Path):
    async def story() -> None:
        async with service(tmp_path) as it:
            await it.put(identity(1), BODY)
            await refused(it.put(identity(2), BODY, crc=1), BadDigest)
            assert it.disk.store.head(identity(2)) is None
            await refused(it.put(identity(1), b"other"), ShardConflict)
            await refused(it.get(identity(3)), NoSuchShard)
            await refused(it.get(identity(1), first=MIB), InvalidRange)
            await refused(it.get(identity(1), first=100), InvalidRange)
            await refused(it.put(identity(4), bytes(SHARD_BYTES_MAX + 1)), EntityTooLarge)
            unknown = it.client.get_shard(it.url, b"?" * 16, identity(1), deadline_s=10)
            await refused(unknown, NoSuchNode)
            unknown_put = it.client.put_shard(
                it.url, b"?" * 16, identity(1), CODING, b"x", 1, deadline_s=10
            )
            await refused(unknown_put, NoSuchNode)

    run(story)


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        ({CODING_HEADER: "rs-2-1"}, BadDigest),
        ({CODING_HEADER: "rs-2-1", CRC_HEADER: "xyz"}, BadDigest),
        ({CRC_HEADER: "352441c2"}, MalformedBody),
        ({CRC_HEADER: "352441c2", CODING_HEADER: "raid"}, MalformedBody),
    ],
)
def test_a_put_without_its_headers_stores_nothing(
    tmp_path: Path, headers: dict[str, str], kind: type[StoreError]
):
    async def story() -> None:
        async with service(tmp_path) as it:
            reply = await it.raw("PUT", shard_path(it.disk.uuid, identity(1)), b"abc", headers)
            assert type(parse_error(reply.status, reply.body)) is kind
            assert it.disk.store.stats().shards == 0

    run(story)


@pytest.mark.parametrize("text", ["bytes=-5", "bytes=0-1,5-6", "items=0-1", "bytes=5-2"])
def test_other_forms_of_range_are_refused(tmp_path: Path, text: str):
    async def story() -> None:
        async with service(tmp_path) as it:
            await it.put(identity(1), BODY)
            path = shard_path(it.disk.uuid, identity(1))
            reply = await it.raw("GET", path, headers={"Range": text})
            assert isinstance(parse_error(reply.status, reply.body), InvalidRange)

    run(story)


def test_a_batch_answers_each_shard_for_itself(tmp_path: Path):
    async def story() -> None:
        async with service(tmp_path, "disk-1", "disk-2") as it:
            one, two = it.node.disks
            two.refuse("it smokes")
            await it.put(identity(7), b"there")
            puts = [
                (put_head(3, b"abc", one.uuid, 1), b"abc"),
                (put_head(3, b"abc", one.uuid, 2, crc=5), b"abc"),
                (put_head(3, b"abc", two.uuid, 3), b"abc"),
                (put_head(3, b"abc", b"?" * 16, 4), b"abc"),
                (put_head(3, b"abc", one.uuid, 7), b"abc"),
                (put_head(5, b"there", one.uuid, 7), b"there"),
                (put_head(4, b"last", one.uuid, 5), b"last"),
            ]
            outcomes = await it.client.put_batch(it.url, puts, deadline_s=10)
            codes = [outcome.error for outcome in outcomes]
            assert codes == ["", "BadDigest", "DiskRefused", "NoSuchNode", "ShardConflict", "", ""]
            assert outcomes[2].message == "it smokes"
            assert await it.get(identity(5)) == b"last"
            assert one.store.stats().shards == 3

    run(story)


def test_a_batch_that_does_not_add_up_stores_nothing(tmp_path: Path):
    async def story() -> None:
        async with service(tmp_path) as it:
            puts = [(put_head(9, b"abc", it.disk.uuid, 1), b"abc")]
            with pytest.raises(MalformedBody):
                await it.client.put_batch(it.url, puts, deadline_s=10)
            bad = ShardPut(
                disk=it.disk.uuid,
                identity=ShardIdentity(stripe=b"short", index=1, gen=0),  # type: ignore[arg-type]
                coding=CODING,
                crc=crc32c(b"abc"),
                size_bytes=3,
            )
            (outcome,) = await it.client.put_batch(it.url, [(bad, b"abc")], deadline_s=10)
            assert outcome.error == InvalidArgument.__name__
            assert it.disk.store.stats().shards == 0

    run(story)


def test_inventory_pages_cover_the_disk_once_in_order(tmp_path: Path):
    async def story() -> None:
        async with service(tmp_path) as it:
            for number in range(7):
                await it.put(identity(number), b"body")
            seen: list[ShardIdentity] = []
            after = ""
            while True:
                page = await it.client.inventory(it.url, it.disk.uuid, after, 3, deadline_s=10)
                seen += [row.identity for row in page.rows]
                assert all((row.size_bytes, row.crc) == (4, crc32c(b"body")) for row in page.rows)
                after = page.next
                if not after:
                    break
            assert seen == [identity(number) for number in range(7)]
            path = f"/v1/disks/{it.disk.uuid.hex()}/inventory"
            for query in ("?limit=0", "?limit=x", "?limit=99999999", "?after=zz", "?after=abcd"):
                reply = await it.raw("GET", path + query)
                assert isinstance(parse_error(reply.status, reply.body), InvalidArgument), query

    run(story)


def test_a_corrupt_shard_is_never_served_and_is_remembered_for_the_scrub(tmp_path: Path):
    async def story() -> None:
        async with service(tmp_path) as it:
            await it.put(identity(1), BODY)
            flip_bit_of(it.disk, BODY)
            await refused(it.get(identity(1)), CorruptShard)
            assert it.disk.store.damaged() == [identity(1)]
            # Its good blocks can still help to rebuild it (SAFETY rule 11).
            assert await it.get(identity(1), first=0, length=BLOCK_BYTES) == BODY[:BLOCK_BYTES]

    run(story)


def test_metrics_show_space_and_shards(tmp_path: Path):
    async def story() -> None:
        async with service(tmp_path) as it:
            await it.put(identity(1), BODY)
            await it.get(identity(1))
            text = it.metrics.text().decode()
            uuid = it.disk.uuid.hex()
            assert f'oss_shards{{disk="{uuid}",node="b"}} 1.0' in text
            assert f'oss_volume_count{{disk="{uuid}",node="b"}} 1.0' in text
            assert f'oss_disk_free_bytes{{disk="{uuid}",node="b"}}' in text
            assert 'oss_node_used_bytes{node="b"}' in text
            assert 'oss_shard_op_seconds_count{op="put"} 1.0' in text
            assert 'oss_shard_op_seconds_count{op="get"} 1.0' in text
            assert "oss_compaction_bytes_total" in text and "oss_scrub_bytes_total" in text

    run(story)


def test_status_is_json(tmp_path: Path):
    async def story() -> None:
        async with service(tmp_path) as it:
            reply = check(await it.raw("GET", "/v1/status"))
            assert msgspec.json.decode(reply.body, type=Status).id == "b"

    run(story)
