"""Draining and removing nodes, pausing and forcing work, and whether a node may be stopped."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from frontend.flows.nodes import chosen, why_not_drain, why_not_stop
from osscore.errors import NoSuchNode
from osscore.model import Profile, reed_solomon, replicas
from raftmeta.catalog.soft import DiskSoft, NodeSoft, SoftState
from raftmeta.credentials import AuditListed, ListAudit
from raftmeta.healing import HealingState
from raftmeta.moving import CodingFound
from raftmeta.queries import (
    CatalogCounted,
    ClusterDescribed,
    CountCatalog,
    DiskInfo,
    GetCluster,
    NodeInfo,
)
from raftmeta.targets import ROOM_BYTES_MIN
from tests.frontend.harness import BUCKET, random_bytes, uuid
from tests.frontend.rest.serving import Api, run

FOUR_TWO = CodingFound(Profile(4, 2), reed_solomon(Profile(4, 2)), 10)
TWO_ONE = CodingFound(Profile(2, 1), reed_solomon(Profile(2, 1)), 7)
ROOM = 10 * ROOM_BYTES_MIN


def node(number: int, *disks: str, health: str = "up", silent: bool = False) -> NodeInfo:
    """Disks of these states, numbered 10n, 10n + 1, ..., a thousand shards of a kilobyte each."""
    return NodeInfo(
        node=f"blob-{number}",
        url="",
        zone="",
        health=health,
        last_heartbeat_ms_ago=0,
        disks=tuple(
            DiskInfo(
                disk=10 * number + offset,
                uuid=bytes([number, offset]),
                state=state,
                capacity_bytes=1 << 40,
                free_bytes=ROOM,
                writable=True,
                is_silent=silent,
                slot_count=1000,
                slot_bytes=1_000_000,
            )
            for offset, state in enumerate(disks or ("in",))
        ),
    )


def cluster(nodes: Iterable[NodeInfo]) -> ClusterDescribed:
    return ClusterDescribed(
        cluster_id=b"c",
        catalog_key_wrapped=b"",
        system_token_digest=b"",
        keys_epoch=1,
        nodes=tuple(nodes),
        admits_writes=True,
        inline_bytes_max=4096,
        generation=1,
    )


def nodes_of(count: int) -> list[NodeInfo]:
    return [node(number) for number in range(1, count + 1)]


def obstacle(nodes: list[NodeInfo], name: str, disk: int | None, *found: CodingFound) -> str:
    described = cluster(nodes)
    return why_not_drain(described, chosen(described, name, disk), found)


# --- whether a drain would cost safety -------------------------------------------------------


def test_a_node_drains_where_a_node_for_each_shard_remains() -> None:
    assert obstacle(nodes_of(7), "blob-1", None, FOUR_TWO) == ""
    why = obstacle(nodes_of(6), "blob-1", None, FOUR_TWO)
    assert "10 stripes of profile 4+2 want 6 nodes, and 5" in why
    assert obstacle(nodes_of(6), "blob-1", None, TWO_ONE) == ""
    assert "profile 2+1" in obstacle(nodes_of(3), "blob-1", None, TWO_ONE)
    assert obstacle(nodes_of(3), "blob-1", None) == ""  # nothing lies there


@pytest.mark.parametrize(
    "away",
    [
        node(7, health="down", silent=True),
        node(7, "draining"),
        node(7, "lost"),
        msgspec.structs.replace(node(7), health="unknown"),
    ],
)
def test_nodes_that_take_no_shards_do_not_count(away: NodeInfo) -> None:
    assert "want 6 nodes" in obstacle([*nodes_of(6), away], "blob-1", None, FOUR_TWO)


def test_one_disk_of_a_node_with_another_drains_anyway() -> None:
    nodes = [node(1, "in", "in"), *nodes_of(3)[1:]]
    assert obstacle(nodes, "blob-1", 10, FOUR_TWO, TWO_ONE) == ""
    assert "profile 2+1" in obstacle(nodes, "blob-1", None, TWO_ONE)


def test_copies_want_a_node_each() -> None:
    copies = CodingFound(Profile(4, 2), replicas(3), 4)
    assert obstacle(nodes_of(4), "blob-1", None, copies) == ""
    assert "want 3 nodes, and 2" in obstacle(nodes_of(3), "blob-1", None, copies)


def test_what_has_to_move_must_fit() -> None:
    nodes = nodes_of(7)
    full = msgspec.structs.replace(nodes[0].disks[0], slot_bytes=6 * (ROOM - ROOM_BYTES_MIN) + 1)
    nodes[0] = msgspec.structs.replace(nodes[0], disks=(full,))
    why = obstacle(nodes, "blob-1", None, FOUR_TWO)
    assert f"{full.slot_bytes} bytes have to be moved" in why
    just = msgspec.structs.replace(full, slot_bytes=full.slot_bytes - 1)
    nodes[0] = msgspec.structs.replace(nodes[0], disks=(just,))
    assert obstacle(nodes, "blob-1", None, FOUR_TWO) == ""
    nodes.append(node(8, "draining"))  # what already drains needs room, too
    assert "have to be moved" in obstacle(nodes, "blob-1", None, FOUR_TWO)


def test_unknown_names_are_refused() -> None:
    described = cluster([node(1, "in", "removed"), node(2, "removed")])
    for name, disk in (("blob-9", None), ("blob-1", 11), ("blob-1", 20), ("blob-2", None)):
        with pytest.raises(NoSuchNode):
            chosen(described, name, disk)


# --- whether a node may be stopped -----------------------------------------------------------

WHOLE = CatalogCounted(
    buckets=0,
    versions=0,
    markers=0,
    stripes=1,
    dead_stripes=0,
    segments=0,
    uploads=0,
    trash=0,
    graveyard=0,
    sessions=0,
    logical_bytes=0,
    stored_bytes=0,
    missing={},
)


def test_a_node_may_stop_while_all_else_is_there() -> None:
    assert why_not_stop(cluster(nodes_of(3)), WHOLE, "blob-1") == ""
    assert "Fewer than two" in why_not_stop(cluster(nodes_of(2)), WHOLE, "blob-1")
    hurt = msgspec.structs.replace(WHOLE, missing={1: 4})
    assert "wait for repair: 4" in why_not_stop(cluster(nodes_of(3)), hurt, "blob-1")
    with pytest.raises(NoSuchNode):
        why_not_stop(cluster(nodes_of(3)), WHOLE, "blob-9")


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (node(4, health="suspect"), "not up: blob-4/40"),
        (node(4, "in", "in", silent=True), "not up: blob-4/40, blob-4/41"),
        (node(4, "draining", health="unknown"), "not up"),
        (node(4, "lost", health="down", silent=True), "not rebuilt yet: blob-4/40"),
    ],
)
def test_what_happens_to_others_forbids_stopping(other: NodeInfo, why: str) -> None:
    assert why in why_not_stop(cluster([*nodes_of(3), other]), WHOLE, "blob-1")
    # It itself may go on being down.
    assert why_not_stop(cluster([*nodes_of(3), other]), WHOLE, "blob-4") == ""


def test_what_was_rebuilt_or_removed_does_not_matter() -> None:
    gone = node(4, "lost", health="down", silent=True)
    empty = msgspec.structs.replace(gone.disks[0], slot_count=0, slot_bytes=0)
    for other in (msgspec.structs.replace(gone, disks=(empty,)), node(5, "removed")):
        assert why_not_stop(cluster([*nodes_of(3), other]), WHOLE, "blob-1") == ""


# --- over HTTP ---------------------------------------------------------------------------------


def heard(api: Api, *, silent: tuple[str, ...] = (), healing: HealingState | None = None) -> None:
    """All daemons are up, but for these."""
    world = api.world
    world.meta_rpc.soft = SoftState(
        nodes={
            name: NodeSoft(
                url=f"http://{name}:9201",
                health="down" if name in silent else "up",
                last_heartbeat_ms_ago=10,
                disks={uuid(name): DiskSoft(1 << 40, 1 << 39, True)},
                silent_disks=frozenset({uuid(name)}) if name in silent else frozenset(),
            )
            for name in world.nodes
        },
        healing=healing,
    )


async def state_of(api: Api, number: int) -> str:
    described = await api.world.meta.query(GetCluster(), ClusterDescribed)
    return next(d.state for n in described.nodes for d in n.disks if d.disk == number)


async def audited(api: Api) -> list[tuple[str, str, str, str]]:
    rows = (await api.world.meta.query(ListAudit(limit=100), AuditListed)).rows
    return [(row.action, row.target, row.detail, row.outcome) for row in rows]


async def put_wide(api: Api) -> None:
    await api("PUT", "/buckets/wide?profile=4%2B2")
    answer = await api("PUT", "/buckets/wide/objects/k", data=random_bytes(50_000))
    assert answer.status == 200 or answer.status == 201, answer


def test_a_drain_begins_is_cancelled_and_is_audited(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        heard(api)
        await put_wide(api)
        target = "/v1/maintenance/drain?node=blob-1"
        began = await api("POST", target)
        assert (began.status, began.json["draining"]) == (200, True)
        assert began.json["disks"][0]["disk"] == 1 and await state_of(api, 1) == "draining"
        cancelled = await api("POST", f"{target}&disk=1&cancel=1")
        assert (cancelled.status, cancelled.json["draining"]) == (200, False)
        assert await state_of(api, 1) == "in"
        assert (await audited(api))[1:] == [
            ("node.drain", "blob-1", "", "done"),
            ("node.undrain", "blob-1/1", "", "done"),
        ]

    run(tmp_path, story, nodes=7)


def test_a_drain_that_costs_safety_is_refused_with_the_reason(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        heard(api)
        await put_wide(api)
        refused = await api("POST", "/v1/maintenance/drain?node=blob-1")
        assert refused.status == 412 and "want 6 nodes" in refused.json["error"]["message"]
        assert await state_of(api, 1) == "in"
        assert (await audited(api))[1:] == [
            ("node.drain", "blob-1", "refused: PreconditionFailed", "done")
        ]
        for path, status in (
            ("drain?node=blob-9", 404),
            ("drain", 400),
            ("drain?node=blob-1&disk=x", 400),
            ("remove?node=blob-1&disk=77", 404),
            ("remove", 400),
        ):
            assert (await api("POST", f"/v1/maintenance/{path}")).status == status

    run(tmp_path, story)


def test_only_an_empty_node_is_removed_and_then_it_is_gone(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        heard(api)
        await put_wide(api)
        described = await api.world.meta.query(GetCluster(), ClusterDescribed)
        loads = {n.node: n.disks[0].slot_count for n in described.nodes}
        (empty,) = [name for name, count in loads.items() if not count]
        used = next(name for name, count in loads.items() if count)
        refused = await api("POST", f"/v1/maintenance/remove?node={used}")
        assert refused.status == 409 and "1 shards of" in refused.json["error"]["message"]
        tried = await api("POST", f"/v1/maintenance/remove?node={empty}&dry_run=1")
        assert (tried.status, tried.json["dry_run"]) == (200, True)
        number = tried.json["disks"][0]["disk"]
        assert await state_of(api, number) == "in"
        assert (await api("POST", f"/v1/maintenance/remove?node={empty}")).status == 200
        heard(api, silent=(empty,))
        names = {each["id"] for each in (await api("GET", "/v1/cluster")).json["blobs"]}
        assert empty not in names and used in names
        assert [row[0] for row in (await audited(api))[1:]] == ["node.remove"] * 3
        assert (await api("POST", f"/v1/maintenance/remove?node={empty}")).status == 404

    run(tmp_path, story, nodes=7)


def test_pausing_lasts_and_is_told(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        heard(api, healing=HealingState(is_surveyed=True))
        for work in ("repair", "rebalance"):
            path = f"/v1/maintenance/{work}"
            assert (await api("POST", f"{path}/pause")).json == {"work": work, "paused": True}
            assert (await api("GET", path)).json["paused"] is True
            assert (await api("POST", f"{path}/resume")).status == 200
            assert (await api("GET", path)).json["paused"] is False
            assert (await api("POST", f"{path}/stop")).status in (404, 405)

    run(tmp_path, story)


def test_progress_tells_what_is_left_and_when_it_ends(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        assert (await api("GET", "/v1/maintenance/repair")).status == 503  # nobody looked yet
        heard(
            api,
            healing=HealingState(
                alarm="too many",
                is_surveyed=True,
                missing={1: 5, 2: 1},
                unreadable=1,
                repair_bytes=1000,
                tasks={"repair": 3, "drain": 2},
                bytes_per_s=100.0,
            ),
        )
        await put_wide(api)
        found = (await api("GET", "/v1/maintenance/repair")).json
        assert (found["alarm"], found["tasks"]) == ("too many", {"repair": 3})
        assert (found["left_bytes"], found["eta_s"]) == (1000, 10.0)
        assert found["stripes"] == {
            "surveyed": True,
            "by_missing": {"1": 5, "2": 1},
            "unreadable": 1,
        }
        await api("POST", "/v1/maintenance/drain?node=blob-1")
        found = (await api("GET", "/v1/maintenance/rebalance")).json
        draining = [disk for disk in found["disks"] if disk["state"] == "draining"]
        assert found["tasks"] == {"drain": 2}
        assert found["left_bytes"] == sum(disk["bytes"] for disk in draining)
        cluster = (await api("GET", "/v1/cluster")).json
        assert cluster["healing"]["alarm"] == "too many"

    run(tmp_path, story, nodes=7)


def test_force_gives_up_those_that_are_silent_and_no_other(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        heard(api, silent=("blob-1", "blob-2", "blob-3"))
        answer = await api("POST", "/v1/maintenance/repair/force")
        assert [disk["node"] for disk in answer.json["lost"]] == ["blob-1", "blob-2", "blob-3"]
        assert [await state_of(api, number) for number in range(1, 7)] == ["lost"] * 3 + ["in"] * 3
        assert (await api("POST", "/v1/maintenance/repair/force")).json == {"lost": []}
        assert [row[0] for row in await audited(api)] == ["repair.force"] * 2

    run(tmp_path, story)


def test_whether_a_node_may_be_stopped_is_told(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        heard(api)
        assert (await api("GET", "/v1/maintenance?node=blob-1")).status == 200
        heard(api, silent=("blob-2",))
        refused: Any = await api("GET", "/v1/maintenance?node=blob-1")
        assert refused.status == 412 and "blob-2" in refused.json["error"]["message"]
        assert (await api("GET", "/v1/maintenance?node=blob-2")).status == 200
        # Nobody has missed blob-3 yet: it was only just stopped.
        heard(api)
        described = (await api.world.store.cluster.refresh()).described
        url = next(node.url for node in described.nodes if node.node == "blob-3")
        api.world.blobs.refusing.add(url)
        refused = await api("GET", "/v1/maintenance?node=blob-1")
        assert refused.status == 412 and "blob-3" in refused.json["error"]["message"]
        assert (await api("GET", "/v1/maintenance?node=blob-3")).status == 200
        counted = await api.world.meta.query(CountCatalog(), CatalogCounted)
        assert counted.missing == {} and BUCKET

    run(tmp_path, story)
