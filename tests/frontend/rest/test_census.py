"""Health by the censuses: what is summed, and that nothing unknown passes for healthy."""

from pathlib import Path

from raftmeta.catalog.soft import DiskSoft, NodeSoft, SoftState
from raftmeta.commands import Done, SetDiskState
from raftmeta.upkeep import DiskCensus
from tests.frontend.harness import BUCKET, World, random_bytes, url, uuid
from tests.frontend.rest.keys_at_hand import audited, make_key
from tests.frontend.rest.serving import Api, run

PATH = "/v1/maintenance/census"


def census(present: int, missing: int, **more: int) -> DiskCensus:
    return DiskCensus(
        begun_at_ms=1, finished_at_ms=2, expected=present + missing, present=present,
        missing=missing, **{"generation": 1, **more},
    )  # fmt: skip


def hear(world: World, **told: tuple[str, DiskCensus | None]) -> None:
    """What the leader has heard: `blob_1` is blob-1, with its health and census."""
    nodes = {}
    for name, (health, found) in told.items():
        node = name.replace("_", "-")
        disk = DiskSoft(capacity_bytes=1 << 40, free_bytes=1 << 39, writable=True, census=found)
        nodes[node] = NodeSoft(
            url=url(node), health=health, last_heartbeat_ms_ago=0, disks={uuid(node): disk}
        )
    world.meta_rpc.soft = SoftState(nodes=nodes)


def test_only_disks_with_a_census_of_now_are_summed_and_the_others_named(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        world = api.world
        await api("PUT", f"/buckets/{BUCKET}/objects/k", data=random_bytes(300_000))
        generation = (await world.store.cluster.refresh()).described.generation
        hear(
            world,
            blob_1=("up", census(5, 1, generation=generation, surplus=2, finished_ms_ago=900)),
            blob_2=("up", census(7, 0, generation=generation, young=3, finished_ms_ago=4000)),
            blob_3=("down", census(9, 0, generation=generation)),
            blob_4=("up", None),
            blob_5=("up", census(9, 0, generation=generation + 1)),
            blob_6=("up", census(9, 9, generation=generation)),
        )
        await world.meta.propose(SetDiskState(disk=6, state="lost"), Done)
        found = (await api("GET", PATH)).json
        assert found["disks"] == {"counted": 2, "uncounted": 4}
        assert found["slots"] == {
            "expected": 13, "present": 12, "missing": 1, "surplus": 2, "young": 3,
        }  # fmt: skip
        assert found["oldest_ms_ago"] == 4000
        assert {each["node"]: (each["why"], each["stripes"]) for each in found["uncounted"]} == {
            "blob-3": ("blob-3 is down", 1),
            "blob-4": ("no census yet", 1),
            "blob-5": (f"its census is of generation {generation + 1}, not {generation}", 1),
            "blob-6": ("the disk is lost", 1),
        }
        assert found["stripes"] == {"total": 1, "by_missing": {}}
        shown = (await api("GET", "/v1/cluster")).json["blobs"]
        assert shown[0]["disks"][0]["census"]["missing"] == 1
        assert shown[3]["disks"][0]["census"] is None

    run(tmp_path, story)


def test_a_leader_that_has_heard_nobody_vouches_for_nobody(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        found = (await api("GET", PATH)).json
        assert found["disks"] == {"counted": 0, "uncounted": 6}
        assert found["oldest_ms_ago"] is None

    run(tmp_path, story)


def test_asking_reaches_every_disk_and_names_those_it_does_not(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        api.world.blobs.refusing.add(url("blob-2"))
        told = (await api("POST", PATH)).json["disks"]
        assert [each["node"] for each in told] == api.world.nodes
        assert [bool(each["error"]) for each in told] == [False, True] + [False] * 4
        assert all(each["asked_at_ms"] > 0 for each in told if not each["error"])
        one = (await api("POST", PATH + "?node=blob-3")).json["disks"]
        assert [each["disk"] for each in one] == [3]
        asked = [each for each in api.world.blobs.asked if each == uuid("blob-3")]
        assert len(asked) == 2
        assert (await api("POST", PATH + "?node=absent")).status == 404
        rows = [row for row in await audited(api) if row.action == "census"]
        assert [row.target for row in rows] == ["", "blob-3", "absent"]

    run(tmp_path, story)


def test_who_may(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        reader = await make_key(api, "reader", "info")
        assert (await api("GET", PATH, auth=reader)).status == 200
        assert (await api("POST", PATH, auth=reader)).status == 403
        downloader = await make_key(api, "downloader", "download")
        assert (await api("GET", PATH, auth=downloader)).status == 403
        assert (await api("GET", PATH, auth=None)).status == 401

    run(tmp_path, story)
