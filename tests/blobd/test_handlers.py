import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from blobd.budget import ByteBudget
from blobd.client import BlobClient
from blobd.disks import DataDisk
from blobd.handlers import Shared, routes
from blobd.meters import DaemonMetrics, Parts, ShardTimes
from blobd.wire import (
    BATCH,
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
    DiskFailing,
    EntityTooLarge,
    InvalidArgument,
    InvalidRange,
    LengthRequired,
    MalformedBody,
    NoSuchNode,
    NoSuchShard,
    NotReady,
    Overloaded,
    ShardConflict,
    StoreError,
    Unauthenticated,
)
from osscore.model import BLOCK_BYTES, ShardIdentity
from ossd.clock import SystemClock, system_random
from ossd.disk import SystemDisk, SystemFile
from ossd.envelope import parse_error
from ossd.http import serve
from ossd.metrics import Metrics
from ossd.rpc import AioRpc, Reply, check
from ossd.server import ServerSettings
from ossd.signing import ClusterSecrets, Signer, Verifier
from tests.blobd.parts import CODING, MIB, Node, identity, node, run, until
from tests.blobd.test_scrub import flip_bit_of

SECRETS = ClusterSecrets(current="a secret of the cluster")
BODY = bytes(range(256)) * 600  # two whole blocks of 64 KiB and a short one


@dataclass
class Service:
    """A served node, and a client that may call it."""

    node: Node
    url: str
    port: int
    rpc: AioRpc
    client: BlobClient
    budget: ByteBudget
    metrics: Metrics

    @property
    def disk(self) -> DataDisk:
        return self.node.first

    async def put(self, shard: ShardIdentity, body: bytes, crc: int | None = None) -> None:
        crc = crc32c(body) if crc is None else crc
        await self.client.put_shard(
            self.url, self.disk.uuid, shard, CODING, body, crc, deadline_s=10
        )

    async def get(self, shard: ShardIdentity, **window: int) -> bytes:
        return await self.client.get_shard(self.url, self.disk.uuid, shard, deadline_s=10, **window)

    async def raw(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Reply:
        return await self.rpc.call(
            method, self.url + path, body=body, headers=headers, deadline_s=10
        )


def put_head(size_bytes: int, body: bytes, disk: bytes, number: int, crc: int = -1) -> ShardPut:
    return ShardPut(
        disk=disk,
        identity=identity(number),
        coding=CODING,
        crc=crc32c(body) if crc < 0 else crc,
        size_bytes=size_bytes,
    )


@asynccontextmanager
async def service(
    folder: Path,
    *names: str,
    registered: bool = True,
    budget_bytes: int = 64 * MIB,
    wait_s: float = 0.2,
) -> AsyncIterator[Service]:
    clock, metrics = SystemClock(), Metrics()
    budget = ByteBudget(budget_bytes, wait_s=wait_s)
    async with node(folder, *names, registered=registered) as found:
        status = Status(id="b", role="blobd", version="0", pid=1, state="ready", disks=())
        shared = Shared(
            disks=found.disks,
            budget=budget,
            times=ShardTimes(metrics.registry, clock),
            status=lambda: status,
        )
        metrics.registry.register(DaemonMetrics(Parts(node="b", disks=found.disks, budget=budget)))
        settings = ServerSettings(
            role="blobd", clock=clock, metrics=metrics, verifier=Verifier(SECRETS, clock)
        )
        server = serve(routes(shared), settings=settings, address="127.0.0.1", port=0)
        rpc = AioRpc(signer=Signer(SECRETS, clock, system_random))
        url = f"http://127.0.0.1:{server.port}"
        try:
            yield Service(found, url, server.port, rpc, BlobClient(rpc), budget, metrics)
        finally:
            await rpc.close()
            await server.stop(2)


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


async def refused(attempt: object, kind: type[StoreError]) -> None:
    with pytest.raises(kind):
        await attempt  # type: ignore[misc]


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


def test_nothing_is_answered_without_the_clusters_signature(tmp_path: Path):
    async def story() -> None:
        async with service(tmp_path) as it:
            await it.put(identity(1), BODY)
            disk = it.disk.uuid.hex()
            other = ClusterSecrets(current="a secret of another cluster")
            for signer in (None, Signer(other, SystemClock(), system_random)):
                rpc = AioRpc(signer=signer)
                for method, path in (
                    ("GET", shard_path(it.disk.uuid, identity(1))),
                    ("HEAD", shard_path(it.disk.uuid, identity(1))),
                    ("PUT", shard_path(it.disk.uuid, identity(2))),
                    ("POST", BATCH),
                    ("GET", f"/v1/disks/{disk}/inventory"),
                    ("GET", "/v1/status"),
                ):
                    reply = await rpc.call(method, it.url + path, body=b"", deadline_s=10)
                    assert reply.status == 401, (method, path)
                    assert BLOCK_CRCS_HEADER not in reply.headers
                await rpc.close()

    run(story)


def test_a_body_changed_on_the_way_is_refused(tmp_path: Path):
    async def story() -> None:
        async with service(tmp_path) as it:
            path = shard_path(it.disk.uuid, identity(1))
            signer = Signer(SECRETS, SystemClock(), system_random)
            rpc = AioRpc(signer=None)
            headers = {
                CRC_HEADER: f"{crc32c(b'good'):08x}",
                CODING_HEADER: "rs-2-1",
                **signer.headers("PUT", path, b"good"),
            }
            reply = await rpc.call(
                "PUT", it.url + path, body=b"evil", headers=headers, deadline_s=5
            )
            await rpc.close()
            assert isinstance(parse_error(reply.status, reply.body), Unauthenticated)
            assert it.disk.store.stats().shards == 0

    run(story)


async def raw_request(it: Service, text: bytes, *, close: bool) -> bytes:
    """Send bytes as they are; answers whatever comes back until the end or a second."""
    reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
    writer.write(text)
    await writer.drain()
    if close:
        writer.close()
        await writer.wait_closed()
        return b""
    try:
        return await asyncio.wait_for(reader.read(65536), timeout=2)
    finally:
        writer.close()


def signed_put(it: Service, shard: ShardIdentity, body: bytes, framing: str) -> bytes:
    path = shard_path(it.disk.uuid, shard)
    signature = Signer(SECRETS, SystemClock(), system_random).headers("PUT", path, body)
    lines = [f"PUT {path} HTTP/1.1", "Host: b", framing, f"{CODING_HEADER}: rs-2-1"]
    lines += [f"{CRC_HEADER}: {crc32c(body):08x}"]
    lines += [f"{name}: {value}" for name, value in signature.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def test_a_body_shorter_than_declared_stores_nothing(tmp_path: Path):
    async def story() -> None:
        async with service(tmp_path) as it:
            head = signed_put(it, identity(1), b"abcdef", "Content-Length: 6")
            await raw_request(it, head + b"abc", close=True)
            await until(lambda: it.budget.used_bytes == 0)
            assert it.disk.store.stats().shards == 0

    run(story)


def test_a_body_longer_than_declared_is_cut_off_as_another_request(tmp_path: Path):
    async def story() -> None:
        async with service(tmp_path) as it:
            head = signed_put(it, identity(1), b"abcdef", "Content-Length: 3")
            answer = await raw_request(it, head + b"abcdef", close=False)
            assert b" 201 " not in answer and b" 200 " not in answer
            assert it.disk.store.stats().shards == 0

    run(story)


def test_a_put_must_declare_its_length(tmp_path: Path):
    async def story() -> None:
        async with service(tmp_path) as it:
            head = signed_put(it, identity(1), b"abc", "Transfer-Encoding: chunked")
            answer = await raw_request(it, head + b"3\r\nabc\r\n0\r\n\r\n", close=False)
            assert b" 411 " in answer and LengthRequired.__name__.encode() in answer
            assert it.disk.store.stats().shards == 0

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


def test_writes_wait_for_the_registration(tmp_path: Path):
    async def story() -> None:
        async with service(tmp_path) as it:
            it.disk.number = 0
            await refused(it.put(identity(1), b"abc"), NotReady)

    run(story)


def test_bodies_beyond_the_budget_are_refused_before_they_are_read(tmp_path: Path):
    async def story() -> None:
        async with service(tmp_path, budget_bytes=MIB) as it:
            head = signed_put(it, identity(1), bytes(MIB), f"Content-Length: {MIB}")
            _, writer = await asyncio.open_connection("127.0.0.1", it.port)
            writer.write(head)  # takes the whole budget and sends nothing
            await until(lambda: it.budget.used_bytes == MIB)
            await refused(it.put(identity(2), b"abc"), Overloaded)
            writer.close()
            await until(lambda: it.budget.used_bytes == 0)
            await it.put(identity(2), b"abc")
            await refused(it.get(identity(3)), NoSuchShard)
            assert await it.get(identity(2)) == b"abc"
            await until(lambda: it.budget.used_bytes == 0)

    run(story)


def test_a_client_that_leaves_while_it_waits_for_the_budget_keeps_none_of_it(tmp_path: Path):
    async def story() -> None:
        async with service(tmp_path, budget_bytes=MIB, wait_s=20) as it:
            head = signed_put(it, identity(1), bytes(MIB), f"Content-Length: {MIB}")
            _, first = await asyncio.open_connection("127.0.0.1", it.port)
            first.write(head)
            await until(lambda: it.budget.used_bytes == MIB)
            _, second = await asyncio.open_connection("127.0.0.1", it.port)
            second.write(signed_put(it, identity(2), bytes(MIB), f"Content-Length: {MIB}"))
            await until(lambda: it.budget.waiting_count == 1)
            second.transport.abort()
            first.close()
            await until(lambda: it.budget.used_bytes == 0 and it.budget.waiting_count == 0)
            await it.put(identity(3), b"abc")

    run(story)


def test_a_reader_that_takes_nothing_gives_its_bytes_back_when_it_leaves(tmp_path: Path):
    async def story() -> None:
        async with service(tmp_path, budget_bytes=8 * MIB) as it:
            body = bytes(8 * MIB)
            await it.put(identity(1), body)
            await until(lambda: it.budget.used_bytes == 0)
            path = shard_path(it.disk.uuid, identity(1))
            signature = Signer(SECRETS, SystemClock(), system_random).headers("GET", path, b"")
            lines = [f"GET {path} HTTP/1.1", "Host: b"]
            lines += [f"{name}: {value}" for name, value in signature.items()]
            with socket.create_connection(("127.0.0.1", it.port)) as peer:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                await asyncio.to_thread(peer.sendall, "\r\n".join([*lines, "", ""]).encode())
                await until(lambda: it.budget.used_bytes == 8 * MIB)
            await until(lambda: it.budget.used_bytes == 0)

    run(story)


class FailingFile(SystemFile):
    """A file whose syncs fail once the disk does."""

    failing = False

    def sync(self) -> None:
        if FailingFile.failing:
            raise OSError(errno.EIO, "Input/output error")
        super().sync()


class FailingDisk(SystemDisk):
    """A disk that starts to fail when the test says so."""

    def open(self, path: Path, *, create: bool = False, write: bool = True) -> SystemFile:
        file = super().open(path, create=create, write=write)
        file.__class__ = FailingFile
        return file


def test_a_failing_disk_says_so_loses_nothing_and_the_other_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tests.blobd.parts.SystemDisk", FailingDisk)
    monkeypatch.setattr(FailingFile, "failing", False)

    async def story() -> None:
        async with service(tmp_path, "disk-1", "disk-2") as it:
            failing, healthy = it.node.disks
            await it.put(identity(1), b"before")
            FailingFile.failing = True
            await refused(it.put(identity(2), b"after"), DiskFailing)
            FailingFile.failing = False  # too late: what was written is not known (rule 13)
            await refused(it.put(identity(2), b"after"), DiskFailing)
            assert await it.get(identity(1)) == b"before"
            assert "Input/output error" in failing.problem and not failing.writable
            puts = [(put_head(3, b"abc", disk.uuid, 5), b"abc") for disk in (failing, healthy)]
            outcomes = await it.client.put_batch(it.url, puts, deadline_s=10)
            assert [outcome.error for outcome in outcomes] == ["DiskFailing", ""]
            await it.node.membership.heartbeat()
            first, second = it.node.rpc.heartbeats[-1].disks
            assert not first.writable and "Input/output error" in first.problem
            assert second.writable and not second.problem

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
