"""Full and read-only disks: the caller learns the cause, and writes resume by themselves."""

from pathlib import Path

import pytest

from frontend import cluster as cluster_module
from frontend.cluster import AVOID_S, ClusterView
from frontend.flows.objects import ObjectRef, find_object
from frontend.readiness import Readiness
from osscore.errors import DiskFull, NoSuchKey
from osscore.model import CodingKind, Profile
from osscore.placement import Obstacle
from raftmeta.catalog.soft import DiskSoft, NodeSoft, SoftState
from raftmeta.targets import ROOM_BYTES_MIN
from tests.cluster.harness import eventually
from tests.fakes.clock import ManualClock
from tests.frontend.harness import BUCKET, World, random_bytes, run, url, uuid

ROOMY = DiskSoft(capacity_bytes=1 << 40, free_bytes=1 << 39, writable=True)
FULL = DiskSoft(capacity_bytes=1 << 40, free_bytes=0, writable=False)
NEARLY_FULL = DiskSoft(capacity_bytes=1 << 40, free_bytes=ROOM_BYTES_MIN - 1, writable=True)
READ_ONLY = DiskSoft(
    capacity_bytes=1 << 40, free_bytes=1 << 39, writable=False, problem="Read-only file system"
)


def heard(world: World, **disks: DiskSoft | str) -> None:
    """What the leader has heard; `blob_1` is blob-1, a text is its health."""
    nodes = {}
    for name, disk in disks.items():
        node = name.replace("_", "-")
        is_disk = isinstance(disk, DiskSoft)
        nodes[node] = NodeSoft(
            url=url(node),
            health="up" if is_disk else disk,
            last_heartbeat_ms_ago=0,
            disks={uuid(node): disk} if is_disk else {},
        )
    world.meta_rpc.soft = SoftState(nodes=nodes)


def test_each_disk_tells_its_obstacle(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        heard(world, blob_1=ROOMY, blob_2=FULL, blob_3=NEARLY_FULL, blob_4=READ_ONLY, blob_5="down")
        # blob-6 has never been heard of by this leader: writes do not wait for that.
        state = await world.store.cluster.refresh()
        assert {target.node: target.obstacle for target in state.targets} == {
            "blob-1": Obstacle.NONE,
            "blob-2": Obstacle.FULL,
            "blob-3": Obstacle.FULL,
            "blob-4": Obstacle.READ_ONLY,
            "blob-5": Obstacle.SILENT,
            "blob-6": Obstacle.NONE,
        }
        usable = {target.node for target in state.targets if target.weight > 0}
        assert usable == {"blob-1", "blob-6"}

    run(tmp_path, story)


def test_a_refusal_counts_at_once_and_for_a_few_seconds(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        clock = ManualClock(monotonic_s=1000.0)
        view = ClusterView(world.meta, clock=clock)
        state = await view.refresh()
        refusing = state.targets[0].disk

        def obstacle() -> Obstacle:
            (found,) = [target for target in view.targets(state) if target.disk == refusing]
            assert (found.weight > 0) == (found.obstacle is Obstacle.NONE)
            return found.obstacle

        assert obstacle() is Obstacle.NONE
        view.note_refusal(refusing, Obstacle.FULL)
        assert obstacle() is Obstacle.FULL
        clock.advance(AVOID_S)
        assert obstacle() is Obstacle.NONE
        await view.close()

    run(tmp_path, story, nodes=3)


def test_full_daemons_give_disk_full_name_nothing_and_take_writes_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "AVOID_S", 1.0)

    async def story(world: World) -> None:
        body = random_bytes(300_000)
        await world.put("before", body)
        world.blobs.full = {uuid(node) for node in world.nodes}
        for size_bytes in (30_000, 300_000, 20_000_000):  # a batch, a stripe, a long body
            with pytest.raises(DiskFull) as refused:
                await world.put("new", random_bytes(size_bytes, seed=1))
            assert f"full: {', '.join(world.nodes)}" in refused.value.message
        with pytest.raises(NoSuchKey):
            await world.get("new")
        assert await world.get("before") == body
        await world.put("inline", b"needs no disk of a blob daemon")
        world.blobs.full = set()
        await eventually(lambda: takes(world, "new", body[::-1]), what="writes to resume")
        assert await world.get("new") == body[::-1]

    run(tmp_path, story)


async def takes(world: World, key: str, body: bytes) -> bool:
    try:
        await world.put(key, body)
    except DiskFull:
        return False
    return True


def test_four_full_of_six_leave_replicas_on_the_other_two(tmp_path: Path) -> None:
    """The leader does not know yet: what the daemons just said decides where it goes."""

    async def story(world: World) -> None:
        world.blobs.full = {uuid(node) for node in world.nodes[:4]}
        body = random_bytes(300_000)
        await world.put("k", body, profile=Profile(4, 2))
        found = await find_object(world.store, ObjectRef(bucket=BUCKET, key="k"))
        assert found.segments[0].stripe.coding.kind is CodingKind.REPLICA
        assert await world.get("k") == body

    run(tmp_path, story)


def test_a_full_store_is_ready_and_one_without_daemons_is_not(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        cluster = world.store.cluster
        readiness = Readiness(cluster, world.clock)

        async def obstacle(**disks: DiskSoft | str) -> str | None:
            heard(world, **disks)
            await cluster.refresh()
            return readiness.checks()["blob daemons"]()

        # At the start a disk that is read-only is one that is not registered yet.
        starting = await obstacle(blob_1=READ_ONLY, blob_2=READ_ONLY, blob_3=READ_ONLY)
        assert starting is not None and "0 blob daemons" in starting
        # A frontend that starts beside a full store serves reads and deletes.
        assert await obstacle(blob_1=FULL, blob_2=FULL, blob_3="down") is None
        assert await obstacle(blob_1=READ_ONLY, blob_2=READ_ONLY, blob_3=READ_ONLY) is None
        few = await obstacle(blob_1=FULL, blob_2="down", blob_3="suspect")
        assert few is not None and "1 blob daemons" in few

    run(tmp_path, story, nodes=3)
