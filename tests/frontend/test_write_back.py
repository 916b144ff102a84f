"""A shard that a read found damaged is put back or left, and never in silence (SAFETY rule 11)."""

import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from frontend.flows.get import read_object
from frontend.flows.objects import ObjectRef, find_object
from frontend.flows.store import Store, stripe_cost_bytes
from frontend.meters import FlowMetrics
from osscore.errors import NoLeader, PeerUnreachable
from tests.fakes.blobs import Place
from tests.frontend.harness import BUCKET, World, random_bytes, run
from tests.frontend.test_rules import BrokenCodec, data_shard

SHARD_BYTES = 75_000


@pytest.mark.parametrize(
    "outcome",
    ["written", "busy", "no memory", "DiskFull", "PeerUnreachable", "wrong_bytes", "no leader"],
)
def test_what_became_of_a_damaged_shard_is_counted_and_logged_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    outcome: str,
) -> None:
    body = random_bytes(4 * SHARD_BYTES)

    async def story(world: World) -> None:
        caplog.set_level(logging.INFO)
        await world.put("k", body)
        found = await find_object(world.store, ObjectRef(bucket=BUCKET, key="k"))
        lost = data_shard(world)
        world.blobs.remove(lost)
        expected = hinder_write_back(world, lost, outcome, monkeypatch)
        for _ in range(1 if outcome == "written" else 2):
            got = [bytes(p) async for p in read_object(world.store, found, 0, len(body) - 1)]
            assert b"".join(got) == body
        await world.store.close()
        noted = dict(world.store.damage.counts)
        assert noted == {expected: 1 if outcome == "written" else 2}
        assert (lost in world.blobs.places()) == (outcome == "written")
        registry = CollectorRegistry()
        registry.register(FlowMetrics(world.store))
        line = f'oss_damaged_shards_total{{outcome="{expected}"}} {noted[expected]}.0'
        assert line in generate_latest(registry).decode()
        said = [vars(r) for r in caplog.records if r.message == "damaged_shard"]
        assert [(s["stripe"], s["index"], s["outcome"]) for s in said] == [
            (found.segments[0].stripe.stripe.hex(), 0, expected)
        ]

    run(tmp_path, story)


def too_much_runs_already(_: Store, work: Coroutine[Any, Any, None]) -> bool:
    work.close()
    return False


def hinder_write_back(
    world: World, lost: Place, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Arrange for that outcome; answers its name in the metric."""
    if outcome == "busy":
        monkeypatch.setattr(Store, "in_background", too_much_runs_already)
    elif outcome == "no memory":
        take, cost_bytes = world.store.budget.try_take, stripe_cost_bytes(SHARD_BYTES)
        monkeypatch.setattr(
            world.store.budget, "try_take", lambda b, **more: b != cost_bytes and take(b, **more)
        )
        return "busy"
    elif outcome == "DiskFull":
        world.blobs.full.add(lost[0])
    elif outcome == "PeerUnreachable":

        async def put_shard(*_: Any, **__: Any) -> None:
            raise PeerUnreachable("No connection.")

        monkeypatch.setattr(world.blobs, "put_shard", put_shard)
    elif outcome == "wrong_bytes":
        codec: Any = BrokenCodec(world.store.codec)
        codec.decode = world.store.codec.decode
        world.store.codec = codec
    elif outcome == "no leader":

        async def query(*_: Any, **__: Any) -> None:
            raise NoLeader("There is none.")

        monkeypatch.setattr(world.meta, "query", query)
        return "NoLeader"
    return outcome
