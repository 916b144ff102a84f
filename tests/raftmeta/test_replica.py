"""Replicas with real sockets, threads and files, in one process."""

import asyncio
import threading
from pathlib import Path

import pytest

from osscore.errors import CommandTooLarge, CorruptJournal, NotLeader, NotReady, OutcomeUnknown
from ossd.clock import SystemClock
from ossd.disk import SystemDisk
from ossd.signing import ClusterSecrets
from raftmeta.commands import Done
from raftmeta.journal import Journal
from raftmeta.replica import Replica
from raftmeta.settings import JournalSettings, RaftIdentity, RaftSettings
from tests.raftmeta.replicas import SECRETS, RememberingMachine, Trio, configuration, eventually


@pytest.fixture
def trio(tmp_path: Path):
    cluster = Trio(tmp_path)
    yield cluster
    cluster.stop_all()
    assert cluster.fatal == {}


async def test_batch_is_applied_once_by_all_and_its_results_come_back(trio):
    trio.start_all()
    leader = await trio.leader()
    applied = await leader.propose_entry(b"one")
    assert applied.results == [Done()]
    await eventually(lambda: all(m.blobs == [b"one"] for m in trio.machines.values()))
    assert leader.applied_index >= applied.index == (await leader.confirm_read())


async def test_followers_refuse_and_name_the_leader(trio):
    trio.start_all()
    leader = await trio.leader()
    follower = next(r for r in trio.replicas.values() if r is not leader)
    await eventually(lambda: follower.leader_id == leader.leader_id)
    with pytest.raises(NotLeader):
        await follower.propose(b"x")
    with pytest.raises(NotLeader):
        await follower.confirm_read()


async def test_writes_go_on_after_the_leader_stopped_and_it_catches_up(trio):
    trio.start_all()
    leader = await trio.leader()
    await leader.propose(b"before")
    gone = leader.leader_id
    trio.stop(gone)
    await trio.write(b"after")
    trio.start(gone)
    await eventually(lambda: all(m.blobs[-1:] == [b"after"] for m in trio.machines.values()))


async def test_restart_of_all_keeps_what_was_acknowledged(trio):
    trio.start_all()
    await trio.write(b"kept")
    trio.stop_all()
    for member_id in trio.members:
        trio.machines[member_id] = RememberingMachine()  # a catalog that lost its last commits
    trio.start_all()
    await eventually(lambda: all(b"kept" in m.blobs for m in trio.machines.values()))


async def test_leader_without_a_majority_ends_every_call(tmp_path):
    settings = RaftSettings(propose_deadline_s=8.0, read_deadline_s=8.0)
    trio = Trio(tmp_path, settings)
    trio.start_all()
    leader = await trio.leader()
    for member_id in [m for m in trio.members if m != leader.leader_id]:
        trio.stop(member_id)
    with pytest.raises(OutcomeUnknown):
        await leader.propose(b"x")
    await eventually(lambda: not leader.is_leader)
    trio.stop_all()


async def test_cancelled_callers_disturb_nobody(trio):
    trio.start_all()
    leader = await trio.leader()
    calls = [asyncio.ensure_future(leader.propose(b"%d" % at)) for at in range(20)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await leader.propose(b"last")
    blobs = trio.machines[leader.leader_id].blobs
    assert blobs[-1] == b"last" and len(blobs) == len(set(blobs))


async def test_apply_that_raises_stops_the_member_for_good(trio):
    trio.start_all()
    leader = await trio.leader()
    victim = next(m for m in trio.members if m != leader.leader_id)
    trio.machines[victim].failure = RuntimeError("disk image is malformed")
    await leader.propose(b"x")
    await eventually(lambda: victim in trio.fatal)
    assert "malformed" in str(trio.fatal.pop(victim))
    with pytest.raises(NotReady):
        trio.replicas[victim].forget_match("meta-1")
    await leader.propose(b"the others go on")


async def test_too_large_a_batch_is_refused_before_it_is_logged(trio):
    trio.start_all()
    leader = await trio.leader()
    with pytest.raises(CommandTooLarge):
        await leader.propose(bytes(17 * 1024 * 1024))
    large = bytes(9 * 1024 * 1024)
    await trio.write(large)
    await eventually(lambda: all(large in m.blobs for m in trio.machines.values()))


async def test_secret_is_rotated_in_rolling_passes_under_load(trio):
    new = "a newer secret of the tests"
    trio.start_all()
    await trio.write(b"0")
    passes = (
        ClusterSecrets(current=SECRETS.current, previous=new),
        ClusterSecrets(current=new, previous=SECRETS.current),
        ClusterSecrets(current=new),
    )
    for number, secrets in enumerate(passes, 1):
        for member_id in trio.members:
            trio.stop(member_id)
            trio.start(member_id, secrets)
            await trio.write(b"%d" % number)
    last = b"%d" % len(passes)
    await eventually(lambda: all(m.blobs[-1:] == [last] for m in trio.machines.values()))


async def test_log_is_cut_behind_a_durable_catalog(tmp_path):
    journal = JournalSettings(segment_bytes=50_000, cut_bytes=200_000, keep_bytes=60_000)
    trio = Trio(tmp_path, RaftSettings(journal=journal))
    trio.start_all()
    leader = await trio.leader()
    for _ in range(12):
        await leader.propose(bytes(30_000))
    assert leader.cut_due
    leader.cut_log(trio.machines[leader.leader_id].checkpoint())
    await eventually(lambda: not leader.cut_due)
    assert leader.term_at(1) is None and leader.term_at(leader.applied_index) == leader.term
    trio.stop_all()


async def test_member_of_one_decides_alone(tmp_path):
    trio = Trio(tmp_path)
    members = {"meta-1": trio.members["meta-1"]}
    replica = Replica(
        identity=RaftIdentity("meta-1", members["meta-1"], b"c" * 16),
        configuration=configuration(members),
        directory=tmp_path / "meta-1",
        machine=trio.machines["meta-1"],
        secrets=SECRETS,
        clock=SystemClock(),
        disk=SystemDisk(),
        on_fatal=lambda error: None,
    )
    replica.start()
    trio.replicas["meta-1"] = replica
    leader = await trio.leader()
    await leader.propose(b"x")
    assert trio.machines["meta-1"].blobs == [b"x"]
    trio.stop_all()


def test_damaged_journal_refuses_to_start(tmp_path):
    trio = Trio(tmp_path)
    (tmp_path / "meta-1" / "vote").write_bytes(b"")
    with pytest.raises(CorruptJournal):
        trio.start("meta-1")


def test_address_in_use_refuses_to_start_and_leaves_the_journal_closed(tmp_path):
    trio = Trio(tmp_path)
    trio.members["meta-2"] = trio.members["meta-1"]
    trio.start("meta-1")
    with pytest.raises(OSError):
        trio.start("meta-2")
    trio.stop_all()
    Journal.open(tmp_path / "meta-2", disk=SystemDisk()).close()


async def test_tick_that_never_ends_is_fatal(tmp_path):
    trio = Trio(tmp_path, RaftSettings(stall_limit_s=2.0))
    trio.start_all()
    leader = await trio.leader()
    released = threading.Event()
    machine = trio.machines[leader.leader_id]
    machine.apply = lambda index, blob: released.wait(60) and []
    stuck = leader.leader_id
    call = asyncio.ensure_future(leader.propose(b"x"))
    await eventually(lambda: stuck in trio.fatal)
    assert isinstance(trio.fatal[stuck], TimeoutError)
    released.set()
    await asyncio.gather(call, return_exceptions=True)
    await asyncio.to_thread(trio.stop_all)
