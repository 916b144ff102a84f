"""The leader's pruning, round after round, over a catalog that changes under it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from osscore.errors import NotLeader
from raftmeta.commands import CreateBucket, PruneVersions, SetKeepVersions, VersionsPruned
from raftmeta.entries import Entry
from raftmeta.queries import (
    BucketInfo,
    BucketsListed,
    FindPrunable,
    ListBuckets,
    ListVersions,
    PrunableFound,
    VersionsListed,
)
from raftmeta.stewards import pruning
from raftmeta.stewards.pruning import Pruning
from tests.fakes.clock import ManualClock
from tests.raftmeta.catalog.harness import Driver
from tests.raftmeta.waiting import until


class Keeper:
    """A steward over a real catalog. `failing`: proposals that still fail."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.clock = ManualClock()
        self.proposed: list[PruneVersions] = []
        self.failing = 0
        self.before: Callable[[], object] = lambda: None
        self.steward = Pruning(
            buckets=self._buckets, find=self._find, propose=self._propose, clock=self.clock
        )

    async def _buckets(self) -> Sequence[BucketInfo]:
        listed = self.driver.ask(ListBuckets())
        assert isinstance(listed, BucketsListed)
        return listed.buckets

    async def _find(self, query: FindPrunable) -> PrunableFound:
        found = self.driver.ask(query)
        assert isinstance(found, PrunableFound)
        return found

    async def _propose(self, command: PruneVersions) -> VersionsPruned:
        self.before()
        if self.failing:
            self.failing -= 1
            raise NotLeader()
        self.proposed.append(command)
        (result,) = self.driver.apply(Entry(0, 0, command))
        assert isinstance(result, VersionsPruned)
        return result

    async def run_round(self) -> None:
        """One round, its pauses passed over."""
        await self.passing(self.steward.round())

    async def passing(self, work: Awaitable[None]) -> None:
        """Wait for `work` while time passes."""
        task = asyncio.ensure_future(work)
        while not task.done():
            await asyncio.sleep(0)
            self.clock.advance(pruning.PAUSE_S)
        await task

    def counts(self, bucket: str = "bucket") -> dict[str, int]:
        """Versions by key."""
        listed = self.driver.ask(ListVersions(bucket=bucket, limit=10_000))
        assert isinstance(listed, VersionsListed)
        keys = [version.key for version in listed.versions]
        return {key: keys.count(key) for key in keys}


@pytest.fixture
def keeper(tmp_path: Path) -> Keeper:
    driver = Driver(tmp_path / "catalog.sqlite")
    driver.form()
    for key in ("a", "b", "c"):
        for _ in range(4):
            driver.put_inline(key, b"x")
    return Keeper(driver)


def test_only_buckets_that_ask_are_pruned_and_all_their_keys(keeper: Keeper) -> None:
    keeper.driver.run(CreateBucket(bucket="other"))
    for _ in range(4):
        keeper.driver.put_inline("a", b"x", bucket="other")
    keeper.driver.run(SetKeepVersions(bucket="bucket", keep_versions=2))
    asyncio.run(keeper.run_round())
    assert keeper.counts() == {"a": 2, "b": 2, "c": 2}
    assert keeper.counts("other") == {"a": 4}
    progress = keeper.steward.progress
    assert (progress.buckets, progress.buckets_done) == (1, 1)
    assert (progress.keys_visited, progress.removed) == (3, 6)
    assert progress.finished_at_s is not None


def test_a_quiet_store_gets_no_commands(keeper: Keeper) -> None:
    asyncio.run(keeper.run_round())
    keeper.driver.run(SetKeepVersions(bucket="bucket", keep_versions=4))
    asyncio.run(keeper.run_round())
    assert keeper.proposed == []


def test_a_round_cut_off_by_a_lost_leader_is_finished_by_the_next(keeper: Keeper) -> None:
    keeper.driver.run(SetKeepVersions(bucket="bucket", keep_versions=1))

    async def story() -> None:
        keeper.failing = 1
        running = asyncio.ensure_future(keeper.steward.run())
        await until(lambda: keeper.clock.sleeper_count)
        assert keeper.counts() == {"a": 4, "b": 4, "c": 4}
        assert keeper.steward.progress.finished_at_s is None
        while keeper.steward.progress.finished_at_s is None:
            await asyncio.sleep(0)
            keeper.clock.advance(pruning.REST_S)
        running.cancel()
        await asyncio.wait({running})

    asyncio.run(story())
    assert keeper.counts() == {"a": 1, "b": 1, "c": 1}


def test_a_setting_taken_back_in_the_middle_of_a_round_holds_at_once(keeper: Keeper) -> None:
    keeper.driver.run(SetKeepVersions(bucket="bucket", keep_versions=1))

    def take_back() -> None:
        if len(keeper.proposed) == 1:
            keeper.driver.run(SetKeepVersions(bucket="bucket", keep_versions=0))

    keeper.before = take_back
    asyncio.run(keeper.run_round())
    assert keeper.counts() == {"a": 1, "b": 4, "c": 4}


def test_many_versions_take_many_commands(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "ROWS_MAX", 4)
    keeper.driver.run(SetKeepVersions(bucket="bucket", keep_versions=1))
    asyncio.run(keeper.run_round())
    assert keeper.counts() == {"a": 1, "b": 1, "c": 1} and len(keeper.proposed) >= 9
