"""What a frontend knows of the others, and how it deals with what it has seen fail."""

from pathlib import Path

import pytest

from frontend.cluster import ClusterView, index_cluster
from osscore.errors import NoLeader
from osscore.placement import Obstacle
from raftmeta.queries import ClusterDescribed, DiskInfo, NodeInfo
from tests.frontend.harness import World, run


def described(**health: str) -> ClusterDescribed:
    """A cluster with one disk a node."""
    nodes = [
        NodeInfo(
            node=node,
            url=f"http://{node}",
            zone="",
            health=state,
            last_heartbeat_ms_ago=0,
            disks=(
                DiskInfo(
                    disk=number,
                    uuid=bytes(16),
                    state="in",
                    capacity_bytes=1 << 40,
                    free_bytes=0 if state == "unknown" else 1 << 39,
                    writable=state == "up",
                ),
            ),
        )
        for number, (node, state) in enumerate(health.items(), start=1)
    ]
    return ClusterDescribed(
        cluster_id=b"",
        catalog_key_wrapped=b"",
        system_token_digest=b"",
        keys_epoch=1,
        nodes=tuple(nodes),
        admits_writes=True,
        inline_bytes_max=4096,
        generation=1,
    )


def test_only_what_may_live_takes_new_shards() -> None:
    state = index_cluster(described(a="up", b="down", c="suspect", d="unknown"))
    obstacles = {target.node: target.obstacle for target in state.targets}
    assert obstacles == {
        "a": Obstacle.NONE,
        "b": Obstacle.SILENT,
        "c": Obstacle.SILENT,
        "d": Obstacle.NONE,
    }
    assert {target.node for target in state.targets if target.weight > 0} == {"a", "d"}
    assert (state.node_count, set(state.disks)) == (4, {1, 2, 3, 4})


def test_last_description_serves_while_there_is_no_leader(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        state = await world.store.cluster.refresh()
        world.meta_rpc.is_reachable = False
        assert await world.store.cluster.current() is state
        empty = ClusterView(world.meta, clock=world.clock, deadline_s=0.1)
        with pytest.raises(NoLeader):
            await empty.current()
        await empty.close()
        world.meta_rpc.is_reachable = True

    run(tmp_path, story)


def test_failed_node_is_avoided_unless_too_few_would_remain(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        cluster = world.store.cluster
        state = await cluster.refresh()
        cluster.note_failure("blob-1")
        assert {t.node for t in cluster.targets(state)} == {"blob-2", "blob-3"}
        assert not cluster.is_living("blob-1")
        cluster.note_failure("blob-2")
        assert {t.node for t in cluster.targets(state)} == {"blob-1", "blob-2", "blob-3"}
        cluster.note_success("blob-1")
        assert cluster.is_living("blob-1")

    run(tmp_path, story, nodes=3)
