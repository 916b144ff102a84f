"""Replicas over loopback in one process, and a state machine that only remembers."""

import asyncio
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from osscore.errors import StoreError, Unavailable
from ossd.clock import SystemClock
from ossd.disk import Disk, SystemDisk
from ossd.signing import ClusterSecrets
from raftmeta.commands import Done
from raftmeta.entries import AnyResult
from raftmeta.journal import Journal
from raftmeta.members import Member
from raftmeta.membership import Configuration
from raftmeta.replica import Replica
from raftmeta.settings import RaftIdentity, RaftSettings

CLUSTER_ID = b"c" * 16
SECRETS = ClusterSecrets(current="a secret only the tests know")


class RememberingMachine:
    """Keeps every batch in order; may be told to fail."""

    def __init__(self) -> None:
        self.applied: list[tuple[int, bytes]] = []
        self.failure: BaseException | None = None

    @property
    def applied_index(self) -> int:
        return self.applied[-1][0] if self.applied else 0

    def apply(self, index: int, blob: bytes) -> list[AnyResult]:
        if self.failure is not None:
            raise self.failure
        assert index > self.applied_index
        self.applied.append((index, blob))
        return [Done()]

    def checkpoint(self) -> int:
        return self.applied_index

    def copy_to(self, path: Path) -> int:
        raise NotImplementedError

    @property
    def blobs(self) -> list[bytes]:
        return [blob for _, blob in self.applied]


@dataclass
class Trio:
    """Three replicas, started one by one."""

    root: Path
    settings: RaftSettings = field(default_factory=RaftSettings)
    secrets: ClusterSecrets = SECRETS
    disk: Disk = field(default_factory=SystemDisk)
    replicas: dict[str, Replica] = field(default_factory=dict)
    machines: dict[str, RememberingMachine] = field(default_factory=dict)
    fatal: dict[str, BaseException] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ports = free_ports(3)
        self.members = {f"meta-{at}": f"127.0.0.1:{port}" for at, port in enumerate(ports, 1)}
        for member_id in self.members:
            self.machines[member_id] = RememberingMachine()
            Journal.create(self.root / member_id, disk=self.disk).close()

    def identity(self, member_id: str) -> RaftIdentity:
        return RaftIdentity(member_id, self.members[member_id], CLUSTER_ID)

    def start(self, member_id: str, secrets: ClusterSecrets | None = None) -> Replica:
        replica = Replica(
            identity=self.identity(member_id),
            configuration=configuration(self.members),
            directory=self.root / member_id,
            machine=self.machines[member_id],
            secrets=secrets or self.secrets,
            clock=SystemClock(),
            disk=self.disk,
            settings=self.settings,
            on_fatal=lambda error: self.fatal.__setitem__(member_id, error),
        )
        replica.start()
        self.replicas[member_id] = replica
        return replica

    def start_all(self) -> None:
        for member_id in self.members:
            self.start(member_id)

    def stop(self, member_id: str) -> None:
        self.replicas.pop(member_id).stop()

    def stop_all(self) -> None:
        for member_id in list(self.replicas):
            self.stop(member_id)

    async def leader(self) -> Replica:
        """A leader that a majority confirms."""
        deadline_s = time.monotonic() + 20
        while time.monotonic() < deadline_s:
            for replica in self.replicas.values():
                if replica.is_leader:
                    try:
                        await replica.confirm_read()
                    except Unavailable:
                        continue
                    return replica
            await asyncio.sleep(0.01)
        raise AssertionError("no leader in time")

    async def write(self, blob: bytes) -> None:
        """Propose until it is acknowledged; the same blob may be applied twice."""
        deadline_s = time.monotonic() + 20
        while time.monotonic() < deadline_s:
            try:
                await (await self.leader()).propose(blob)
            except StoreError:
                continue
            return
        raise AssertionError("no acknowledgement in time")


def configuration(addresses: Mapping[str, str]) -> Configuration:
    """Members by id and Raft address, as of forming."""
    return Configuration(
        0,
        tuple(
            Member(id=id_, raft=raft, url=f"http://{id_}")
            for id_, raft in sorted(addresses.items())
        ),
    )


async def eventually(holds: Callable[[], bool], within_s: float = 20) -> None:
    """Wait for a condition."""
    deadline_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline_s, "the condition did not come true in time"
        await asyncio.sleep(0.005)


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on at the moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports
