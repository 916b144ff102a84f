"""What an object is made of and would survive, as a client of the native API sees it."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from frontend.cluster import ClusterState
from frontend.flows.explain import explain_object
from frontend.flows.objects import ObjectRef
from osscore.model import ShardIdentity
from osscore.names import StripeId
from osscore.times import parse_time, time_ms
from raftmeta.catalog.soft import NodeSoft, SoftState
from raftmeta.commands import Done, MarkBad, SetDiskState
from raftmeta.queries import ClusterDescribed, GetCluster
from tests.frontend.harness import random_bytes
from tests.frontend.rest.serving import Api, run

BODY = random_bytes(50_000)


async def explained(api: Api, name: str = "k", query: str = "") -> Any:
    answer = await api("GET", f"/explain/{name}{query}")
    assert answer.status == 200, answer.body
    return answer.json


def states(found: Any) -> list[str]:
    return [shard["state"] for stripe in found["stripes"] for shard in stripe["shards"]]


def test_a_whole_object(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        await api("PUT", "/buckets/wide?profile=3%2B2")
        await api("PUT", "/buckets/wide/objects/k", data=BODY)
        await api("PUT", "/buckets/wide/objects/k", data=BODY + b"!")
        found = await explained(api, query="?bucket=wide")
        assert (found["version"]["version"], len(found["versions"])) == (2, 2)
        assert (found["profiles"], found["is_inline"]) == (["3+2"], False)
        assert found["logical_bytes"] == 50_001
        (stripe,) = found["stripes"]
        assert found["stored_bytes"] == 5 * stripe["shard_bytes"]
        assert (stripe["coding"], stripe["references"]) == ("3+2", 1)
        assert states(found) == ["good"] * 5
        assert (found["survives_nodes"], found["survives_disks"]) == (2, 2)
        older = await explained(api, query="?bucket=wide&version=1")
        assert older["logical_bytes"] == 50_000

    run(tmp_path, story)


def test_sharing_and_compression_are_told(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        for name in ("k", "twin"):
            await api("PUT", f"/objects/{name}", data=BODY)
        await api("PUT", "/objects/text", data=b"the same words again " * 5000)
        assert (await explained(api))["stripes"][0]["references"] == 2
        assert (await explained(api))["stripes"][0]["compressed_bytes"] is None
        stripe = (await explained(api, "text"))["stripes"][0]
        assert stripe["compressed_bytes"] < stripe["plain_bytes"] / 10

    run(tmp_path, story)


def test_each_way_to_lose_a_shard_has_its_name(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        await api("PUT", "/buckets/wide?profile=3%2B2")
        await api("PUT", "/buckets/wide/objects/k", data=BODY)
        meta = api.world.store.meta
        stripe = (await explained(api, query="?bucket=wide"))["stripes"][0]
        cluster = await meta.query(GetCluster(), ClusterDescribed)
        numbers = {disk.uuid.hex(): disk.disk for node in cluster.nodes for disk in node.disks}
        first, second, third = (numbers[shard["disk"]] for shard in stripe["shards"][:3])
        identity = ShardIdentity(StripeId(bytes.fromhex(stripe["stripe"])), 0, 0)
        await meta.propose(MarkBad(identity=identity, disk=first), Done)
        await meta.propose(SetDiskState(disk=second, state="lost"), Done)
        found = await explained(api, query="?bucket=wide")
        assert states(found)[:3] == ["bad", "lost", "good"]
        assert found["survives_nodes"] == 0
        silent = stripe["shards"][2]["node"]
        soft = api.world.meta_rpc.soft
        nodes = {**soft.nodes, silent: NodeSoft("http://x", "down", 99_999)}
        api.world.meta_rpc.soft = SoftState(nodes=nodes)
        found = await explained(api, query="?bucket=wide")
        assert states(found)[:3] == ["bad", "lost", "silent"] and third
        assert found["survives_nodes"] == -1

    run(tmp_path, story)


def test_small_empty_and_unknown_objects(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        await api("PUT", "/objects/small", data=b"x")
        found = await explained(api, "small")
        assert found["is_inline"] and found["stripes"] == [] and found["survives_nodes"] is None
        assert (await api("GET", "/explain/nothing")).status == 404
        assert (await api("GET", "/explain/small?version=9")).status == 404
        assert (await api("GET", "/explain/small?version=x")).status == 400
        assert (await api("GET", "/explain/small", auth=None)).status == 401

    run(tmp_path, story)


def test_each_shard_tells_when_it_was_last_reread(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        await api("PUT", "/buckets/wide?profile=3%2B2")
        await api("PUT", "/buckets/wide/objects/k", data=BODY)
        blobs = api.world.blobs
        (stripe,) = (await explained(api, query="?bucket=wide"))["stripes"]
        assert [shard["verified"] for shard in stripe["shards"]] == [None] * 5
        first, second = stripe["shards"][:2]
        for nth, shard in enumerate((first, second)):
            identity = ShardIdentity(StripeId(bytes.fromhex(stripe["stripe"])), shard["index"], 0)
            blobs.verified_ms_ago[bytes.fromhex(shard["disk"]), identity] = 60_000 * nth
        now_ms = api.world.store.clock.now_ms()
        (stripe,) = (await explained(api, query="?bucket=wide"))["stripes"]
        told = [shard["verified"] for shard in stripe["shards"]]
        ages_ms = [now_ms - time_ms(parse_time(each)) for each in told[:2]]
        assert abs(ages_ms[0]) < 10_000 and abs(ages_ms[1] - 60_000) < 10_000
        assert told[2:] == [None] * 3
        # A daemon that does not answer costs its own answer, and nothing else.
        url = next(
            node.url
            for node in (await api.world.store.cluster.refresh()).described.nodes
            if node.node == first["node"]
        )
        blobs.refusing.add(url)
        (stripe,) = (await explained(api, query="?bucket=wide"))["stripes"]
        told = [shard["verified"] for shard in stripe["shards"]]
        assert told[0] is None and told[1] is not None

    run(tmp_path, story)


def test_zones_count_where_all_shards_have_one(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        await api("PUT", "/buckets/wide?profile=3%2B2")
        await api("PUT", "/buckets/wide/objects/k", data=BODY)
        found = await explained(api, query="?bucket=wide")
        assert found["survives_zones"] is None and found["stripes"][0]["survives_zones"] is None
        state = await api.world.store.cluster.refresh()
        zoned = {
            disk: replace(place, zone=f"zone-{nth % 2}")
            for nth, (disk, place) in enumerate(sorted(state.disks.items()))
        }
        ref = ObjectRef(bucket="wide", key="k")

        async def refresh() -> ClusterState:
            return replace(state, disks=zoned)

        api.world.store.cluster.refresh = refresh  # type: ignore[method-assign]
        (stripe,) = (await explain_object(api.world.store, ref)).stripes
        zones = Counter(shard.zone for shard in stripe.shards)
        assert stripe.survives_zones == (1 if max(zones.values()) <= 2 else 0)

    run(tmp_path, story)
