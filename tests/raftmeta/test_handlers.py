"""One metanode with all its parts in this process, over real HTTP."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from osscore.errors import (
    AlreadyFormed,
    CommandTooLarge,
    InvalidArgument,
    MalformedBody,
    MetadataLowSpace,
    NotReady,
    StoreError,
    Unauthenticated,
)
from osscore.model import Coding, CodingKind, ObjectAttributes, Profile, Slot, StripeDraft
from ossd.clock import SystemClock, system_random
from ossd.disk import Space
from ossd.rpc import AioRpc, check
from ossd.run import Stopper
from ossd.signing import ClusterSecrets, Signer
from raftmeta.__main__ import serve_metanode
from raftmeta.admission import ROWS_MAX, has_room, refusal, rows_of
from raftmeta.client import MetaClient, bootstrap, read_status
from raftmeta.commands import (
    AbortUpload,
    CreateBucket,
    DeleteBucket,
    DiskReport,
    Done,
    NodeRegistered,
    PutObject,
    RegisterNode,
    Stage,
    StripesBody,
    TrashDone,
)
from raftmeta.config import MetaConfig
from raftmeta.members import Member
from raftmeta.queries import (
    BucketsListed,
    ClusterDescribed,
    GetCluster,
    ListBuckets,
    ListObjects,
    ObjectsListed,
)
from raftmeta.wire import Bootstrap, DiskHeartbeat, FrontendHeartbeat, Heartbeat
from tests.cluster.harness import HOST, SECRET, eventually, free_port


@dataclass
class Running:
    """The metanode under test and two ways to call it."""

    url: str
    member: Member
    rpc: AioRpc
    unsigned: AioRpc
    client: MetaClient

    async def form(self) -> None:
        request = Bootstrap(members=(self.member,), root_access_key="ROOT")
        await bootstrap(self.rpc, self.url, request)


def run(tmp_path: Path, story: Callable[[Running], Awaitable[None]], **settings: object) -> None:
    http, raft = free_port(), free_port()
    member = Member(id="meta-1", raft=f"{HOST}:{raft}", url=f"http://{HOST}:{http}")
    config = MetaConfig(
        id=member.id,
        data=str(tmp_path / "meta-1"),
        http=f"{HOST}:{http}",
        raft=member.raft,
        cluster_secret=SECRET,
        **settings,  # type: ignore[arg-type]
    ).check()

    async def main() -> None:
        stopper = Stopper()
        serving = asyncio.ensure_future(serve_metanode(config, stopper))
        signer = Signer(ClusterSecrets(current=SECRET), SystemClock(), system_random)
        rpc, unsigned = AioRpc(signer=signer), AioRpc(signer=None)
        client = MetaClient(rpc, [member.url], clock=SystemClock(), random=system_random)
        try:
            running = Running(member.url, member, rpc, unsigned, client)
            await asyncio.wait(
                {serving, asyncio.ensure_future(_until_live(running))},
                return_when=asyncio.FIRST_COMPLETED,
            )
            await story(running)
        finally:
            await client.close()
            await rpc.close()
            await unsigned.close()
            stopper.stop()
            await serving

    asyncio.run(main())


async def _until_live(running: Running) -> None:
    async def live() -> bool:
        try:
            return (await get(running, "/livez"))[0] == 200
        except StoreError:
            return False

    await eventually(live, what="the metanode to listen")


async def get(running: Running, path: str) -> tuple[int, str]:
    reply = await running.unsigned.call("GET", running.url + path, deadline_s=5)
    return reply.status, reply.body.decode()


def test_an_empty_metanode_says_so_and_serves_nothing(tmp_path: Path) -> None:
    async def story(running: Running) -> None:
        found = await read_status(running.rpc, running.url)
        assert (found.state, found.cluster_id, found.members) == ("empty", "", ())
        assert (await get(running, "/livez"))[0] == 200
        code, text = await get(running, "/readyz?verbose")
        assert code == 503 and "empty" in text
        with pytest.raises(NotReady):
            url = running.url + "/v1/snapshot?joining=x"
            check(await running.rpc.call("GET", url, deadline_s=5))

    run(tmp_path, story)


def test_a_formed_metanode_is_ready_tells_metrics_and_forms_no_second_time(tmp_path: Path) -> None:
    async def story(running: Running) -> None:
        await running.form()
        await running.client.propose(CreateBucket(bucket="photos"), Done)
        assert (await get(running, "/readyz"))[0] == 200
        found = await read_status(running.rpc, running.url)
        assert (found.state, found.leader) == ("leader", "meta-1")
        assert found.cluster_id and found.free_bytes > 0
        text = (await get(running, "/metrics"))[1]
        assert "oss_raft_is_leader 1.0" in text
        assert 'oss_catalog_rows{table="buckets"} 1.0' in text
        assert "oss_raft_commit_seconds_count" in text
        with pytest.raises(AlreadyFormed):
            await running.form()

    run(tmp_path, story)


def test_nothing_internal_answers_without_a_signature(tmp_path: Path) -> None:
    async def story(running: Running) -> None:
        for method, path in (
            ("POST", "/v1/propose"),
            ("POST", "/v1/query"),
            ("POST", "/v1/heartbeat"),
            ("POST", "/v1/heartbeat/frontend"),
            ("POST", "/v1/bootstrap"),
            ("POST", "/v1/form"),
            ("GET", "/v1/snapshot?joining=meta-2"),
            ("GET", "/v1/status"),
        ):
            reply = await running.unsigned.call(method, running.url + path, deadline_s=5)
            with pytest.raises(Unauthenticated):
                check(reply)

    run(tmp_path, story)


def test_bodies_that_are_no_requests_are_refused(tmp_path: Path) -> None:
    async def story(running: Running) -> None:
        await running.form()
        bodies = (b"", b"\xff" * 20, msgspec.msgpack.encode({"entries": [], "queries": []}))
        for path in ("/v1/propose", "/v1/query"):
            for body in bodies:
                reply = await running.rpc.call("POST", running.url + path, body=body, deadline_s=5)
                with pytest.raises(MalformedBody):
                    check(reply)
        reply = await running.rpc.call("GET", running.url + "/v1/snapshot?joining=me", deadline_s=5)
        with pytest.raises(InvalidArgument):
            check(reply)

    run(tmp_path, story)


def test_heartbeats_show_in_the_described_cluster(tmp_path: Path) -> None:
    uuid = b"u" * 16
    beat = Heartbeat(
        node="blob-1",
        url="http://b1",
        zone="z1",
        disks=(DiskHeartbeat(uuid=uuid, capacity_bytes=10, free_bytes=7, writable=True),),
    )

    async def story(running: Running) -> None:
        await running.form()
        described = await running.client.query(GetCluster(), ClusterDescribed)
        register = RegisterNode(
            node="blob-1",
            url="http://b1",
            zone="z1",
            cluster_id=described.cluster_id,
            disks=(DiskReport(uuid=uuid, epoch=0, capacity_bytes=10),),
        )
        await running.client.propose(register, NodeRegistered)
        [node] = (await running.client.query(GetCluster(), ClusterDescribed)).nodes
        assert node.health == "unknown"
        await running.client.heartbeat(beat)
        [node] = (await running.client.query(GetCluster(), ClusterDescribed)).nodes
        assert (node.health, node.disks[0].free_bytes, node.disks[0].writable) == ("up", 7, True)

    run(tmp_path, story)


def test_frontends_are_found_by_their_heartbeats(tmp_path: Path) -> None:
    async def story(running: Running) -> None:
        await running.form()
        assert (await running.client.query(GetCluster(), ClusterDescribed)).frontends == ()
        for url in ("http://f2", "http://f1"):
            await running.client.heartbeat(FrontendHeartbeat(frontend="frontend", url=url))
        found = (await running.client.query(GetCluster(), ClusterDescribed)).frontends
        assert [each.url for each in found] == ["http://f1", "http://f2"]
        assert all(each.frontend == "frontend" and each.health == "up" for each in found)

    run(tmp_path, story)


def test_with_little_room_only_what_shrinks_is_admitted(tmp_path: Path) -> None:
    async def story(running: Running) -> None:
        await running.form()
        with pytest.raises(MetadataLowSpace):
            await running.client.propose(CreateBucket(bucket="photos"), Done)
        await running.client.propose(AbortUpload(upload=b"u" * 16), Done)
        described = await running.client.query(GetCluster(), ClusterDescribed)
        assert not described.admits_writes

    run(tmp_path, story, low_space_bytes=1 << 60, low_space_percent=99.99)


def test_points_and_scans_in_one_request_are_answered_in_order(tmp_path: Path) -> None:
    async def story(running: Running) -> None:
        await running.form()
        await running.client.propose(CreateBucket(bucket="photos"), Done)
        listed, buckets = await asyncio.gather(
            running.client.query(ListObjects(bucket="photos"), ObjectsListed),
            running.client.query(ListBuckets(), BucketsListed),
        )
        assert listed.objects == ()
        assert [each.name for each in buckets.buckets] == ["photos"]

    run(tmp_path, story)


# --- admission -------------------------------------------------------------------------------


def draft(shards: int = 6) -> StripeDraft:
    return StripeDraft(
        stripe=bytes(16),
        profile=Profile(4, 2),
        domain=b"",
        digest=bytes(32),
        plain_bytes=1,
        stored_bytes=1,
        stored_crc=0,
        frames=(),
        coding=Coding(CodingKind.REED_SOLOMON, 4, 2),
        shard_bytes=1,
        shard_crcs=(0,) * shards,
        slots=tuple(Slot(index, 0, index) for index in range(shards)),
    )


def test_a_command_that_writes_too_many_rows_is_refused_before_it_is_logged() -> None:
    large = Stage(upload=b"u", position=0, append=(draft(),) * 200)
    assert rows_of(large) > ROWS_MAX
    for command in (large, TrashDone(disk=1, rows=tuple(range(3000)))):
        assert isinstance(refusal(command, admits_writes=True), CommandTooLarge)
    small = Stage(upload=b"u", position=0, append=(draft(), 7), ask=())
    assert refusal(small, admits_writes=True) is None


def test_a_body_of_three_stripes_must_be_staged() -> None:
    put = PutObject(
        bucket="b",
        key="k",
        attributes=ObjectAttributes(size_bytes=3),
        body=StripesBody(stripes=(draft(),) * 3),
    )
    assert isinstance(refusal(put, admits_writes=True), CommandTooLarge)


def test_shrinking_is_admitted_when_growing_is_not() -> None:
    assert refusal(DeleteBucket(bucket="b"), admits_writes=False) is None
    assert isinstance(refusal(CreateBucket(bucket="b"), admits_writes=False), MetadataLowSpace)


def test_room_is_judged_by_the_lower_of_both_bounds() -> None:
    gib = 1024**3
    assert has_room(Space(1000 * gib, 2 * gib), low_bytes=gib, low_percent=5)
    assert not has_room(Space(1000 * gib, gib // 2), low_bytes=gib, low_percent=5)
    assert has_room(Space(10 * gib, gib * 6 // 10), low_bytes=gib, low_percent=5)
    assert not has_room(Space(10 * gib, gib * 4 // 10), low_bytes=gib, low_percent=5)
