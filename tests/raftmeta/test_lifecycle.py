"""The leader's lifecycle, round after round, over a catalog that changes under it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from osscore.errors import NotLeader
from raftmeta.commands import ConfirmTime, CreateBucket
from raftmeta.entries import Entry
from raftmeta.expiring import ExpiringFound, FindExpiring
from raftmeta.lifecycle import Expired, ExpireObject, ExpireVersions, SetLifecycle
from raftmeta.queries import (
    BucketInfo,
    BucketsListed,
    CatalogCounted,
    CountCatalog,
    ExpiredTotals,
    ListBuckets,
    ListVersions,
    VersionsListed,
)
from raftmeta.stewards import lifecycle
from raftmeta.stewards.lifecycle import Expiring
from tests.fakes.clock import ManualClock
from tests.raftmeta.catalog.harness import MINUTE_MS, START_MS, Driver
from tests.raftmeta.waiting import until

HOUR_MS = 60 * MINUTE_MS


class Keeper:
    """A steward over a real catalog, whose time is the steward's. `failing`: proposals that
    still fail."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.clock = ManualClock(now_ms=START_MS)
        self.batches: list[Sequence[ExpireObject | ExpireVersions]] = []
        self.failing = 0
        self.before: Callable[[], object] = lambda: None
        self.steward = Expiring(
            buckets=self._buckets, find=self._find, propose=self._propose, clock=self.clock
        )

    async def _buckets(self) -> Sequence[BucketInfo]:
        listed = self.driver.ask(ListBuckets())
        assert isinstance(listed, BucketsListed)
        return listed.buckets

    async def _find(self, query: FindExpiring) -> ExpiringFound:
        found = self.driver.ask(query)
        assert isinstance(found, ExpiringFound)
        return found

    async def _propose(
        self, commands: Sequence[ExpireObject | ExpireVersions]
    ) -> Sequence[Expired]:
        self.before()
        if self.failing:
            self.failing -= 1
            raise NotLeader()
        self.batches.append(commands)
        self.driver.now_ms = self.clock.now_ms()
        results = self.driver.apply(*(Entry(0, 0, command) for command in commands))
        assert all(isinstance(result, Expired) for result in results)
        return [result for result in results if isinstance(result, Expired)]

    async def passing(self, work: Awaitable[None]) -> None:
        """Wait for `work` while time passes."""
        task = asyncio.ensure_future(work)
        while not task.done():
            await asyncio.sleep(0)
            self.clock.advance(lifecycle.PAUSE_S)
        await task

    def round(self, after_ms: int = 0) -> None:
        """One round, so much later."""
        self.clock.advance(after_ms / 1000)
        asyncio.run(self.passing(self.steward.round()))

    def ask_for(self, bucket: str = "bucket", **asked: int) -> None:
        self.driver.run(SetLifecycle(bucket=bucket, **asked))

    def histories(self, bucket: str = "bucket") -> dict[str, str]:
        """Keys in letters, oldest first: v a version, d a delete marker."""
        listed = self.driver.ask(ListVersions(bucket=bucket, limit=10_000))
        assert isinstance(listed, VersionsListed)
        found: dict[str, str] = {}
        for version in listed.versions:
            letter = "d" if version.is_marker else "v"
            found[version.key] = letter + found.get(version.key, "")
        return found


@pytest.fixture
def keeper(tmp_path: Path) -> Keeper:
    driver = Driver(tmp_path / "catalog.sqlite")
    driver.form()
    for key in ("a", "b"):
        for _ in range(2):
            driver.put_inline(key, b"xyz")
    return Keeper(driver)


def test_only_buckets_that_ask_lose_anything(keeper: Keeper) -> None:
    keeper.driver.run(CreateBucket(bucket="other"))
    keeper.driver.put_inline("a", b"x", bucket="other")
    keeper.ask_for(expire_after_ms=HOUR_MS // 2, expire_noncurrent_after_ms=HOUR_MS // 2)
    keeper.round(HOUR_MS // 4)
    assert keeper.histories() == {"a": "vv", "b": "vv"} and keeper.batches == []
    keeper.round(HOUR_MS // 2)
    assert keeper.histories() == {"a": "vd", "b": "vd"}
    assert keeper.histories("other") == {"a": "v"}
    progress = keeper.steward.progress
    assert (progress.buckets, progress.buckets_done) == (1, 1)
    assert (progress.objects, progress.removed) == (2, 2)
    keeper.round(HOUR_MS * 3 // 4)
    assert keeper.histories() == {}
    counted = keeper.driver.ask(CountCatalog())
    assert isinstance(counted, CatalogCounted)
    assert counted.expired == ExpiredTotals(objects=2, versions=4, markers=2, size_bytes=12)


def test_a_quiet_store_gets_no_commands(keeper: Keeper) -> None:
    keeper.round()
    keeper.ask_for(expire_after_ms=HOUR_MS, expire_noncurrent_after_ms=HOUR_MS)
    keeper.round()
    assert keeper.batches == []


def test_many_take_many_bounded_steps(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "KEYS_AT_ONCE", 2)
    monkeypatch.setattr(lifecycle, "ROWS_MAX", 16)
    for number in range(7):
        keeper.driver.put_inline(f"k{number}", b"x")
        keeper.driver.put_inline(f"k{number}", b"x")
    keeper.ask_for(expire_after_ms=1, expire_noncurrent_after_ms=HOUR_MS // 2)
    keeper.round(HOUR_MS * 3 // 4)
    assert set(keeper.histories().values()) == {"vd"}
    assert len(keeper.batches) >= 5 and max(map(len, keeper.batches)) <= 3


def test_a_round_cut_off_by_a_lost_leader_is_finished_by_the_next(keeper: Keeper) -> None:
    keeper.ask_for(expire_after_ms=1)

    async def story() -> None:
        keeper.clock.advance(60)
        keeper.failing = 1
        running = asyncio.ensure_future(keeper.steward.run())
        await until(lambda: keeper.clock.sleeper_count)
        assert keeper.histories() == {"a": "vv", "b": "vv"}
        while keeper.steward.progress.finished_at_s is None:
            await asyncio.sleep(0)
            keeper.clock.advance(lifecycle.REST_S_MAX)
        running.cancel()
        await asyncio.wait({running})

    asyncio.run(story())
    assert keeper.histories() == {"a": "vvd", "b": "vvd"}


def test_a_setting_taken_back_in_the_middle_of_a_round_holds_at_once(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "KEYS_AT_ONCE", 1)
    keeper.ask_for(expire_after_ms=1)

    def take_back() -> None:
        if len(keeper.batches) == 1:
            keeper.ask_for(expire_after_ms=0)

    keeper.before = take_back
    keeper.round(HOUR_MS // 2)
    assert keeper.histories() == {"a": "vvd", "b": "vv"}


def test_a_leader_whose_clock_leaps_removes_nothing_and_does_not_insist(keeper: Keeper) -> None:
    keeper.ask_for(expire_after_ms=HOUR_MS, expire_noncurrent_after_ms=HOUR_MS)
    keeper.clock.jump(1000 * HOUR_MS)
    keeper.round()
    assert keeper.histories() == {"a": "vv", "b": "vv"} and len(keeper.batches) == 1
    keeper.driver.run(ConfirmTime())
    keeper.round()
    assert keeper.histories() == {"a": "vd", "b": "vd"}
