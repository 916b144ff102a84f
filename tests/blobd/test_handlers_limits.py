"""The daemon's HTTP under pressure: strangers, torn bodies, the budget, failing disks."""

import asyncio
import errno
import socket
from pathlib import Path

import pytest

from blobd.wire import (
    BATCH,
    BLOCK_CRCS_HEADER,
    CODING_HEADER,
    CRC_HEADER,
    shard_path,
)
from osscore.digests import crc32c
from osscore.errors import (
    DiskFailing,
    LengthRequired,
    NoSuchShard,
    NotReady,
    Overloaded,
    Unauthenticated,
)
from ossd.clock import SystemClock, system_random
from ossd.disk import SystemDisk, SystemFile
from ossd.envelope import parse_error
from ossd.rpc import AioRpc
from ossd.signing import ClusterSecrets, Signer
from tests.blobd.parts import MIB, identity, run, until
from tests.blobd.served import (
    BODY,
    SECRETS,
    put_head,
    raw_request,
    refused,
    service,
    signed_put,
)


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
