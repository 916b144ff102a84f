"""Commits per second of three replicas over loopback, as JSON on stdout.

    python -m bench.raft_commits [--submitters 64] [--seconds 5] [--data DIR]

All three run in this one process, with real sockets, sealed links and fdatasync, under a
state machine that only counts: the figure is that of the log, shared by one interpreter.
"""

import argparse
import asyncio
import json
import socket
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ossd.clock import SystemClock
from ossd.disk import SystemDisk
from ossd.signing import ClusterSecrets
from raftmeta.commands import CreateBucket, Done
from raftmeta.entries import AnyResult, Batch, Entry
from raftmeta.groupcommit import GroupCommit
from raftmeta.journal import Journal
from raftmeta.members import Member
from raftmeta.membership import Configuration
from raftmeta.replica import Replica
from raftmeta.settings import RaftIdentity


class CountingMachine:
    """Decodes batches and answers Done to every command."""

    def __init__(self) -> None:
        self.applied_index = 0
        self._decoder = msgspec.msgpack.Decoder(Batch)

    def apply(self, index: int, blob: bytes) -> list[AnyResult]:
        """See raftmeta.engine.StateMachine."""
        self.applied_index = index
        return [Done()] * len(self._decoder.decode(blob).entries)


def start_replicas(root: Path) -> list[Replica]:
    """Three replicas on free ports."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    members = {f"meta-{at}": f"127.0.0.1:{port}" for at, port in enumerate(ports, 1)}
    configuration = Configuration(
        0, tuple(Member(id=name, raft=at, url="") for name, at in members.items())
    )
    replicas = []
    for member_id, address in members.items():
        Journal.create(root / member_id, disk=SystemDisk()).close()
        replica = Replica(
            identity=RaftIdentity(member_id, address, b"bench"),
            configuration=configuration,
            directory=root / member_id,
            machine=CountingMachine(),
            secrets=ClusterSecrets(current="a secret for this benchmark only"),
            clock=SystemClock(),
            disk=SystemDisk(),
            on_fatal=lambda error: print(json.dumps({"fatal": repr(error)}), flush=True),
        )
        replica.start()
        replicas.append(replica)
    return replicas


async def leader_of(replicas: Sequence[Replica]) -> Replica:
    """The replica that leads, once there is one."""
    while True:
        for replica in replicas:
            if replica.is_leader:
                return replica
        await asyncio.sleep(0.01)


async def submit_for(seconds: float, commits: GroupCommit, delays_s: list[float]) -> None:
    """One submitter: a command at a time."""
    until_s = time.perf_counter() + seconds
    entry = Entry(session=1, seq=1, command=CreateBucket(bucket="a-bucket-name"))
    while (began_s := time.perf_counter()) < until_s:
        await commits.submit([entry])
        delays_s.append(time.perf_counter() - began_s)


async def read_for(seconds: float, leader: Replica, delays_s: list[float]) -> None:
    """One reader: a confirmed read at a time."""
    until_s = time.perf_counter() + seconds
    while (began_s := time.perf_counter()) < until_s:
        await leader.confirm_read()
        delays_s.append(time.perf_counter() - began_s)


def summary(delays_s: list[float], seconds: float) -> dict[str, float]:
    """Rate and percentiles."""
    delays_s.sort()
    return {
        "per_second": round(len(delays_s) / seconds, 1),
        "p50_ms": round(1000 * delays_s[len(delays_s) // 2], 3),
        "p99_ms": round(1000 * delays_s[len(delays_s) * 99 // 100], 3),
    }


async def measure(root: Path, submitters: int, seconds: float) -> dict[str, object]:
    """Commits and reads with many clients, then with one."""
    replicas = start_replicas(root)
    leader = await leader_of(replicas)
    await leader.confirm_read()
    commits = GroupCommit(leader, SystemClock())
    figures: dict[str, object] = {"bench": "raft_commits", "submitters": submitters}
    for name, count in (("commits", submitters), ("commits_alone", 1)):
        delays_s: list[float] = []
        cpu_s = time.process_time()
        await asyncio.gather(*(submit_for(seconds, commits, delays_s) for _ in range(count)))
        cpu_ms = 1000 * (time.process_time() - cpu_s) / len(delays_s)
        figures[name] = summary(delays_s, seconds) | {"cpu_ms_each": round(cpu_ms, 4)}
    for name, count in (("reads", submitters), ("reads_alone", 1)):
        delays_s = []
        await asyncio.gather(*(read_for(seconds, leader, delays_s) for _ in range(count)))
        figures[name] = summary(delays_s, seconds)
    await asyncio.gather(*(asyncio.to_thread(replica.stop) for replica in replicas))
    return figures


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--submitters", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--data", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.data) as root:
        print(json.dumps(asyncio.run(measure(Path(root), arguments.submitters, arguments.seconds))))


if __name__ == "__main__":
    main()
