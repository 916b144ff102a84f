"""Which stripes are encoded anew, by whom, when a job ends, and what is told meanwhile."""

import asyncio
from pathlib import Path

import pytest

from osscore.model import CodingKind, Profile, ShardIdentity, reed_solomon, replicas
from raftmeta.commands import Command, CreateBucket, DeleteVersion, Done, MarkBad, SetDiskState
from raftmeta.entries import Entry
from raftmeta.healing import PauseWork, ReencodeProgress
from raftmeta.moving import StripesPlanned
from raftmeta.reencoding import (
    REPLICAS,
    CancelReencode,
    OpenReencode,
    OpenReencodes,
    ReencodableFound,
    ReencodeJob,
    ReencodesListed,
    ReencodesOpened,
    SetProfile,
)
from raftmeta.stewards import recoding, rewalk
from raftmeta.stewards.reencoding import Reencoding, ReencodingSeams
from raftmeta.stewards.useless import TASK_AGE_MS
from tests.raftmeta.catalog import reencoding as by_hand
from tests.raftmeta.healing_stage import GIB, Stage, replaced

FOUR_TWO, TWO_ONE, ONE_TWO = Profile(4, 2), Profile(2, 1), Profile(1, 2)


class ReencodeStage(Stage):
    """The same catalog and nodes, under the eye of the other steward."""

    def __init__(self, folder: Path, nodes: int = 6) -> None:
        super().__init__(folder)
        for _ in range(nodes):
            self.add_node(100 * GIB)
        self.watcher = self.new_watcher()

    def new_watcher(self) -> Reencoding:
        """A planner that knows nothing yet."""
        seams = ReencodingSeams(
            described=self.described,
            listed=lambda: self._answer(by_hand.ListReencodes(), ReencodesListed),
            find=lambda query: self._answer(query, ReencodableFound),
            look_up=lambda query: self._answer(query, StripesPlanned),
            open_tasks=self._open_all,
            close_tasks=self._propose,
            finish=self._propose,
        )
        self.watcher = Reencoding(seams, self.clock)
        return self.watcher

    async def _open_all(self, command: OpenReencodes) -> ReencodesOpened:
        self.driver.now_ms = max(self.driver.now_ms + 10, self.clock.now_ms())
        (result,) = self.driver.apply(Entry(0, 0, command))
        assert isinstance(result, ReencodesOpened), result
        return result

    def watch(self, rounds: int = 1, *, seconds: float = 3.0) -> None:
        """Rounds of the planner, so many seconds apart."""
        for _ in range(rounds):
            self.clock.advance(seconds)
            asyncio.run(self._watch())

    async def _watch(self) -> None:
        await self.watcher.round()

    def set_profile(self, profile: Profile, *, bucket: str = "bucket") -> None:
        self.driver.now_ms = max(self.driver.now_ms, self.clock.now_ms())
        self.driver.run(SetProfile(bucket=bucket, profile=profile, reencodes=True))

    def open_now(self) -> list[OpenReencode]:
        return [task for disk in self.soft for task in by_hand.tasks_of(self.driver, disk)]

    def encode_all(self) -> int:
        """Every worker that is heard does all it has to; how many stripes."""
        done = 0
        for disk in self.soft:
            for task in () if disk in self.silent else by_hand.tasks_of(self.driver, disk):
                draft = by_hand.anew(self.driver, task, tuple(self.soft))
                done += by_hand.swap(self.driver, task, draft).done
        return done

    def job(self, bucket: str = "bucket") -> ReencodeJob:
        return by_hand.job_of(self.driver, bucket)

    def progress(self, job: int) -> ReencodeProgress:
        return next(each for each in self.watcher.state.progress if each.job == job)

    def command(self, command: Command) -> None:
        assert self.driver.run(command) == Done()  # type: ignore[arg-type]


@pytest.fixture
def stage(tmp_path: Path) -> ReencodeStage:
    return ReencodeStage(tmp_path)


def fill(stage: ReencodeStage, count: int = 1) -> list[int]:
    return [stage.put([1, 2, 3], profile=TWO_ONE) for _ in range(count)]


def test_a_job_goes_over_the_bucket_and_ends(stage: ReencodeStage) -> None:
    rows = fill(stage, 20)
    stage.set_profile(FOUR_TWO)
    done = 0
    for _ in range(20):
        stage.watch()
        done += stage.encode_all()
    assert done == 20 and stage.job().state == "done" and stage.job().stripes == 20
    assert all(stage.stripe(row).coding == reed_solomon(FOUR_TWO) for row in rows)
    assert stage.driver.catalog.contradictions() == []


def test_an_empty_job_ends_but_not_before_all_know_of_it(stage: ReencodeStage) -> None:
    stage.set_profile(FOUR_TWO)
    stage.watch(2, seconds=1)
    assert stage.job().state == "running"
    late = fill(stage)  # by a frontend that did not know yet
    stage.watch(5)
    assert stage.job().state == "running" and len(stage.open_now()) == 1
    stage.encode_all()
    stage.watch(5)
    assert stage.job().state == "done"
    assert stage.stripe(late[0]).profile == FOUR_TWO


def test_few_tasks_are_open_at_a_time_and_every_node_has_some(stage: ReencodeStage) -> None:
    fill(stage, 60)
    stage.set_profile(FOUR_TWO)
    stage.watch(3)
    counts = [len(by_hand.tasks_of(stage.driver, disk)) for disk in stage.soft]
    assert counts == [recoding.TASKS_PER_WORKER] * 6


def test_what_is_left_is_told_before_it_is_opened(stage: ReencodeStage) -> None:
    fill(stage, 60)
    stage.set_profile(FOUR_TWO)
    stage.watch()
    job = stage.job().job
    assert stage.progress(job) == ReencodeProgress(
        job=job, is_surveyed=True, left_stripes=60, left_bytes=60_000
    )
    assert stage.encode_all() == 48
    stage.watch()
    found = stage.progress(job)
    assert (found.left_stripes, found.left_bytes) == (12, 12_000)
    assert stage.watcher.state.bytes_per_s > 0


def test_a_new_leader_goes_on(stage: ReencodeStage) -> None:
    fill(stage, 60)
    stage.set_profile(FOUR_TWO)
    stage.watch()
    stage.encode_all()
    stage.new_watcher()
    for _ in range(8):
        stage.watch()
        stage.encode_all()
    assert (stage.job().state, stage.job().stripes) == ("done", 60)


def test_what_a_dead_worker_had_goes_to_another(stage: ReencodeStage) -> None:
    fill(stage, 6)
    stage.set_profile(FOUR_TWO)
    stage.watch()
    mine = {task.stripe.row for task in by_hand.tasks_of(stage.driver, 4)}
    assert mine
    stage.silent.add(4)
    stage.watch(3)
    assert by_hand.tasks_of(stage.driver, 4) == ()
    assert mine <= {task.stripe.row for task in stage.open_now()}


def test_a_task_that_nobody_gets_on_with_is_given_up(stage: ReencodeStage) -> None:
    fill(stage)
    stage.set_profile(FOUR_TWO)
    stage.watch()
    (before,) = stage.open_now()
    stage.watch(1, seconds=TASK_AGE_MS / 1000 + 1)
    stage.watch(3)
    (after,) = stage.open_now()
    assert after.task > before.task


def test_a_pause_closes_what_is_open_and_opens_nothing(stage: ReencodeStage) -> None:
    fill(stage, 10)
    stage.set_profile(FOUR_TWO)
    stage.watch()
    stage.command(PauseWork(work="reencode", paused=True))
    stage.watch(4)
    assert stage.open_now() == [] and stage.job().state == "running"
    stage.command(PauseWork(work="reencode", paused=False))
    stage.watch(3)
    assert len(stage.open_now()) == 10


def test_a_cancelled_job_s_tasks_are_closed(stage: ReencodeStage) -> None:
    fill(stage, 10)
    stage.set_profile(FOUR_TWO)
    stage.watch()
    stage.command(CancelReencode(bucket="bucket"))
    stage.watch()
    assert stage.open_now() == [] and stage.job().stripes == 0


def test_other_buckets_are_left_alone(stage: ReencodeStage) -> None:
    fill(stage, 3)
    stage.driver.run(CreateBucket(bucket="other", profile=TWO_ONE))
    stage.set_profile(FOUR_TWO, bucket="other")
    stage.watch(5)
    assert stage.open_now() == [] and stage.job("other").state == "done"


def test_what_cannot_be_read_now_keeps_the_job_open_and_says_so(stage: ReencodeStage) -> None:
    (row,) = fill(stage)
    stage.silent |= {1, 2}
    stage.set_profile(TWO_ONE)
    stage.set_profile(Profile(2, 2))
    stage.watch(6)
    assert stage.open_now() == [] and stage.job().state == "running"
    assert "cannot be read" in stage.progress(stage.job().job).waits
    stage.silent.clear()
    stage.watch(3)
    assert [task.stripe.row for task in stage.open_now()] == [row]
    assert stage.progress(stage.job().job).waits == ""


def test_kept_stripes_do_not_keep_a_job_open(stage: ReencodeStage) -> None:
    stage.driver.run(SetProfile(bucket="bucket", profile=ONE_TWO))
    row = stage.put([1, 2, 3], profile=ONE_TWO)
    upload = stage.driver.new_id()
    by_hand.hold(stage.driver, upload, stage.stripe(row), content=stage.contents)
    stage.set_profile(TWO_ONE)
    stage.watch(6)
    assert (stage.job().state, stage.job().kept_stripes) == ("done", 1)


# --- replicas --------------------------------------------------------------------------------


def put_copies(stage: ReencodeStage, disks: list[int]) -> int:
    coding = replicas(len(disks))
    return stage.put(disks, profile=FOUR_TWO, coding=coding, shard_bytes=1000)


def test_replicas_wait_for_nodes_and_then_go_back_by_themselves(stage: ReencodeStage) -> None:
    row = put_copies(stage, [1, 2])
    stage.silent |= {3, 4, 5, 6}
    stage.watch(4)
    assert stage.open_now() == []
    assert "Too few living nodes" in stage.progress(REPLICAS).waits
    assert stage.progress(REPLICAS).left_stripes == 1
    stage.silent.clear()
    stage.watch(4)
    assert stage.encode_all() == 1
    assert stage.stripe(row).coding == reed_solomon(FOUR_TWO)
    stage.watch(4)
    assert stage.progress(REPLICAS).left_stripes == 0


def test_replicas_wait_until_no_loss_less_is_survived(stage: ReencodeStage) -> None:
    """Three copies survive two nodes; 4+2 on five nodes only one."""
    row = put_copies(stage, [1, 2, 3])
    stage.silent.add(6)
    stage.watch(4)
    assert stage.open_now() == []
    stage.silent.clear()
    stage.watch(4)
    assert [task.stripe.row for task in stage.open_now()] == [row]


def test_a_damaged_copy_is_no_obstacle(stage: ReencodeStage) -> None:
    row = put_copies(stage, [1, 2])
    identity = ShardIdentity(stage.stripe(row).stripe, 0, 0)
    stage.command(MarkBad(identity=identity, disk=1))
    stage.watch(2)
    assert stage.encode_all() == 1
    assert stage.stripe(row).coding.kind is CodingKind.REED_SOLOMON


@pytest.mark.parametrize("reason", ["full", "draining"])
def test_disks_that_take_no_shards_do_not_count(stage: ReencodeStage, reason: str) -> None:
    put_copies(stage, [1, 2, 3])
    if reason == "full":
        stage.soft[6] = replaced(stage.soft[6], free_bytes=1)
    else:
        stage.driver.run(SetDiskState(disk=6, state="draining"))
    stage.watch(4)
    assert stage.open_now() == []


def test_a_walk_that_keeps_too_many_rows_goes_on_later(
    stage: ReencodeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewalk, "ROWS_MAX", 10)
    fill(stage, 60)
    stage.driver.run(DeleteVersion(bucket="bucket", key="k7", number=1))
    stage.set_profile(FOUR_TWO)
    for _ in range(20):
        stage.watch()
        stage.encode_all()
    assert (stage.job().state, stage.job().stripes) == ("done", 59)
