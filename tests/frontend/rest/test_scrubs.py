"""The scrubs of all disks as a client sees and orders them."""

from pathlib import Path

from raftmeta.catalog.soft import DiskSoft, NodeSoft, SoftState
from raftmeta.upkeep import DiskScrub
from tests.frontend.harness import World, url, uuid
from tests.frontend.rest.keys_at_hand import audited, make_key
from tests.frontend.rest.serving import Api, run

PATH = "/v1/maintenance/scrub"


def hear(world: World, **told: tuple[str, DiskScrub | None]) -> None:
    """What the leader has heard: `blob_1` is blob-1, with its health and scrub."""
    nodes = {}
    for name, (health, scrub) in told.items():
        node = name.replace("_", "-")
        disk = DiskSoft(capacity_bytes=1 << 40, free_bytes=1 << 39, writable=True, scrub=scrub)
        nodes[node] = NodeSoft(
            url=url(node), health=health, last_heartbeat_ms_ago=0, disks={uuid(node): disk}
        )
    world.meta_rpc.soft = SoftState(nodes=nodes)


UNDER_WAY = DiskScrub(
    began_at_ms=5, done_bytes=100, left_bytes=300, bytes_per_s=10, bad=2, unreported=1,
    volumes=3, unverified_volumes=1, oldest_verified_ms_ago=9000,
)  # fmt: skip
AT_REST = DiskScrub(last_bad=4, last_bytes=50, volumes=1, oldest_verified_ms_ago=7000)


def test_what_is_told_is_summed_and_what_is_not_is_named(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        everybody = {f"blob_{n}": ("up", AT_REST) for n in range(2, 7)}
        hear(api.world, blob_1=("up", UNDER_WAY), **everybody)
        found = (await api("GET", PATH)).json
        assert found["totals"] == {
            "told": 6, "paused": 0, "done_bytes": 100, "left_bytes": 300, "bytes_per_s": 10,
            "eta_s": 30.0, "bad": 2 + 5 * 4, "unreported": 1, "unverified_volumes": 1,
            "oldest_verified_ms_ago": 9000,
        }  # fmt: skip
        assert found["disks"][0]["scrub"]["left_bytes"] == 300
        everybody["blob_3"] = ("down", UNDER_WAY)
        everybody["blob_4"] = ("up", None)
        hear(api.world, blob_1=("up", DiskScrub(began_at_ms=5, left_bytes=1)), **everybody)
        found = (await api("GET", PATH)).json
        assert [each["why"] for each in found["disks"] if each["scrub"] is None] == [
            "blob-3 is down", "nothing told yet",
        ]  # fmt: skip
        # One that does not move ends never, and of some nobody knows when they were reread.
        assert found["totals"]["eta_s"] is None
        assert found["totals"]["oldest_verified_ms_ago"] is None

    run(tmp_path, story)


def test_orders_reach_the_disks_and_the_audit(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        api.world.blobs.refusing.add(url("blob-2"))
        told = (await api("POST", PATH + "?action=now")).json["disks"]
        assert [bool(each["error"]) for each in told] == [False, True] + [False] * 4
        await api("POST", PATH + "?action=pause&node=blob-3")
        assert api.world.blobs.orders[-1] == (uuid("blob-3"), "pause")
        for wrong, status in (("", 400), ("?action=faster", 400), ("?action=now&node=no", 404)):
            assert (await api("POST", PATH + wrong)).status == status
        assert len(api.world.blobs.orders) == 6
        rows = [row for row in await audited(api) if row.action == "scrub"]
        assert [(row.target, row.detail) for row in rows] == [
            ("", "now"), ("blob-3", "pause"), ("no", "now"),
        ]  # fmt: skip
        reader = await make_key(api, "reader", "info")
        assert (await api("GET", PATH, auth=reader)).status == 200
        assert (await api("POST", PATH + "?action=now", auth=reader)).status == 403

    run(tmp_path, story)
