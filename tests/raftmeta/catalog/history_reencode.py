"""The part of any history that encodes stripes anew."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from osscore.model import Profile, Stripe, StripeDraft
from raftmeta.commands import Refused
from raftmeta.credentials import AuditNote
from raftmeta.entries import AnyCommand, AnyResult
from raftmeta.queries import ListStripes, StripesListed
from raftmeta.reencoding import (
    REPLICAS,
    CancelReencode,
    CloseReencodes,
    FinishReencode,
    OpenReencodes,
    Reencode,
    Reencoded,
    ReencodeDraft,
    ReencodesOpened,
    SetProfile,
)
from tests.raftmeta.catalog import reencoding
from tests.raftmeta.catalog.harness import Driver

DISKS = st.permutations([1, 2, 3, 4])
PROFILES = st.sampled_from([Profile(2, 1), Profile(2, 2), Profile(1, 2)])


class ReencodingRules(RuleBasedStateMachine):
    """Rules for a machine that drives a formed catalog of four disks."""

    driver: Driver
    drafts: list[StripeDraft]

    def run_command(self, command: AnyCommand, audit: AuditNote | None = None) -> AnyResult:
        raise NotImplementedError

    @rule(profile=PROFILES, reencodes=st.booleans())
    def set_profile(self, profile: Profile, reencodes: bool) -> None:
        self.run_command(SetProfile(bucket="bucket", profile=profile, reencodes=reencodes))

    @rule(pick=st.integers(0, 1000), worker=st.integers(1, 5), is_replicas=st.booleans())
    def open_reencode(self, pick: int, worker: int, is_replicas: bool) -> None:
        stripes, jobs = self._stripes(), reencoding.listed(self.driver).jobs
        if not stripes or not (jobs or is_replicas):
            return
        stripe = stripes[pick % len(stripes)]
        profile = stripe.profile if is_replicas else jobs[0].profile
        job = REPLICAS if is_replicas else jobs[0].job
        draft = ReencodeDraft(stripe.row, stripe.stripe, profile, worker, job)
        before = len(reencoding.listed(self.driver).tasks)
        result = self.run_command(OpenReencodes(tasks=(draft,)))
        assert isinstance(result, ReencodesOpened)
        assert len(reencoding.listed(self.driver).tasks) == before + result.opened

    @rule(
        pick=st.integers(0, 1000),
        disks=DISKS,
        missing=st.sampled_from([(), (), (), (0,)]),
        old=st.booleans(),
    )
    def reencode(self, pick: int, disks: list[int], missing: tuple[int, ...], old: bool) -> None:
        tasks = [
            task for worker in (1, 2, 3, 4) for task in reencoding.tasks_of(self.driver, worker)
        ]
        if not tasks:
            return
        task = tasks[pick % len(tasks)]
        used = self.drafts[pick % len(self.drafts)].stripe if old and self.drafts else None
        draft = reencoding.anew(self.driver, task, tuple(disks), stripe=used, missing=missing)
        result = self.run_command(Reencode(task=task.task, draft=draft))
        after = next((each for each in self._stripes() if each.row == task.stripe.row), None)
        if isinstance(result, Refused):
            assert result.refusal in ("Conflict", "StaleStripe")
            return
        assert isinstance(result, Reencoded) and result.done == (not result.why)
        self.drafts.append(draft)
        if after is not None:
            assert (after.stripe == draft.stripe) == result.done
            assert after.stored_crc == task.stripe.stored_crc

    @rule(pick=st.integers(0, 1000))
    def close_reencode(self, pick: int) -> None:
        tasks = reencoding.listed(self.driver).tasks
        if tasks:
            self.run_command(CloseReencodes(tasks=(tasks[pick % len(tasks)].task,)))
            assert len(reencoding.listed(self.driver).tasks) == len(tasks) - 1

    @rule(is_cancelled=st.booleans())
    def end_job(self, is_cancelled: bool) -> None:
        jobs = reencoding.listed(self.driver).jobs
        if jobs and is_cancelled:
            self.run_command(CancelReencode(bucket="bucket"))
        elif jobs:
            self.run_command(FinishReencode(job=jobs[0].job))
        assert all(job.state != "running" for job in reencoding.listed(self.driver).jobs)

    def _stripes(self) -> tuple[Stripe, ...]:
        listed = self.driver.ask(ListStripes())
        assert isinstance(listed, StripesListed)
        return listed.stripes
