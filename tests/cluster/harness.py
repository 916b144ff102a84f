"""Real processes on free loopback ports in a temporary folder.

::

    with Cluster(tmp_path) as cluster:
        cluster.form_metanodes(3)
        cluster.run(story)          # async def story(client: MetaClient)

Every wait is for a condition with a deadline. When the block ends with an exception the end
of every log is printed.
"""

import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import msgspec
import pytest

from osscore.errors import StoreError
from ossd.clock import SystemClock, system_random
from ossd.rpc import AioRpc
from ossd.signing import ClusterSecrets, Signer
from raftmeta.client import MetaClient, bootstrap, read_status
from raftmeta.members import Member
from raftmeta.wire import Bootstrap, BootstrapReply, Status

T = TypeVar("T")

SECRET = "a-secret-only-for-tests"
HOST = "127.0.0.1"
LOG_LINES = 40
START_DEADLINE_S = 20.0
PORTS = range(20_000, 30_000)  # below the ephemeral range: no client socket takes them


def free_port() -> int:
    """A port nobody listens on now."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port


def wait_until(
    condition: Callable[[], T | None], *, what: str, deadline_s: float = START_DEADLINE_S
) -> T:
    """The first true value of `condition()`; AssertionError naming `what` if none in time."""
    last_s = time.monotonic() + deadline_s
    while not (found := condition()):
        assert time.monotonic() < last_s, f"waited {deadline_s} s for: {what}"
        time.sleep(0.02)
    return found


async def eventually(
    condition: Callable[[], Awaitable[T | None]], *, what: str, deadline_s: float = 20
) -> T:
    """The same on a loop."""
    last_s = time.monotonic() + deadline_s
    while not (found := await condition()):
        assert time.monotonic() < last_s, f"waited {deadline_s} s for: {what}"
        await asyncio.sleep(0.05)
    return found


def answers(url: str) -> bool:
    """Whether a GET of that URL gives 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


@contextmanager
def mounted(folder: Path, *arguments: str) -> Iterator[None]:
    """A mount for the time of the block."""
    if os.geteuid() != 0:
        pytest.skip("not run: mounting a small or read-only file system needs root")
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", *arguments, str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, mode: str) -> None:
    """Make what is mounted there "ro" or "rw". Nobody may have a file of it open to write."""
    subprocess.run(["mount", "-o", f"remount,bind,{mode}", str(folder)], check=True)


@dataclass
class Daemon:
    """One role process that can be started, killed and started again."""

    name: str
    role: str
    arguments: Sequence[str]
    url: str
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns once it answers /livez."""
        self.launch()
        self.wait_live()

    def launch(self) -> None:
        """Start it without waiting."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", self.role, *self.arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OSS_CLUSTER_SECRET": SECRET, **self.environment},
                cwd=self.log.parent,
            )

    def wait_live(self) -> None:
        """Until it answers /livez."""
        wait_until(self._is_live, what=f"{self.name} to answer")

    def _is_live(self) -> bool:
        assert self.process is not None
        code = self.process.poll()
        assert code is None, f"{self.name} exited with {code}\n{self.tail()}"
        return answers(f"{self.url}/livez")

    def wait_ready(self, *, deadline_s: float = START_DEADLINE_S) -> None:
        """Until /readyz says so."""
        wait_until(
            lambda: answers(f"{self.url}/readyz"), what=f"{self.name} ready", deadline_s=deadline_s
        )

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal, for instance SIGSTOP."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and wait for its end."""
        if self.is_running:
            self.send(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(timeout=10)

    def stop(self, *, deadline_s: float = 20) -> int:
        """SIGTERM; answers the exit code."""
        assert self.process is not None
        if self.is_running:
            self.send(signal.SIGTERM)
        return self.process.wait(timeout=deadline_s)

    def wait_exit(self, *, deadline_s: float = 20) -> int:
        """Its exit code once it ends by itself."""
        assert self.process is not None
        return self.process.wait(timeout=deadline_s)

    def tail(self) -> str:
        """The end of its log."""
        if not self.log.exists():
            return f"{self.name}| never started"
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return "\n".join(f"{self.name}| {line[:400]}" for line in lines)


def start_all(daemons: Sequence[Daemon]) -> None:
    """Start several at once; returns once all answer."""
    for daemon in daemons:
        daemon.launch()
    for daemon in daemons:
        daemon.wait_live()


class Metanode(Daemon):
    """A metanode with its folder and addresses."""

    data: Path
    member: Member

    def wipe(self) -> None:
        """Lose the folder. The process must be dead."""
        assert not self.is_running
        shutil.rmtree(self.data)


class Cluster:
    """All daemons of one test; leaving the block kills them."""

    def __init__(self, folder: Path, *, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.environment = dict(environment or {})
        self.metanodes: list[Metanode] = []
        self.daemons: list[Daemon] = []
        self.formed: BootstrapReply | None = None

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for daemon in self.daemons:
            if daemon.is_running:
                daemon.send(signal.SIGCONT)
            daemon.kill()
        if error is not None:
            for daemon in self.daemons:
                print(daemon.tail(), file=sys.stderr)

    # --- metanodes -----------------------------------------------------------------------

    def add_metanodes(self, count: int, *, bootstrap_first: bool = False) -> None:
        """Lay out and start that many empty metanodes."""
        members = [
            Member(
                id=f"meta-{number}",
                raft=f"{HOST}:{free_port()}",
                url=f"http://{HOST}:{free_port()}",
            )
            for number in range(1, count + 1)
        ]
        for member in members:
            self.metanodes.append(self._metanode(member, members))
        if bootstrap_first:
            texts = (f"{each.id}={each.raft}={each.url}" for each in members)
            first = self.metanodes[0]
            first.arguments = [*first.arguments, "--bootstrap", ",".join(texts)]
        start_all(self.metanodes)

    def form_metanodes(self, count: int = 3) -> None:
        """Start metanodes and form a cluster of them."""
        self.add_metanodes(count)

        async def form(rpc: AioRpc) -> BootstrapReply:
            request = Bootstrap(members=tuple(each.member for each in self.metanodes))
            return await bootstrap(rpc, self.metanodes[0].url, request)

        self.formed = self.run_rpc(form)
        for metanode in self.metanodes:
            metanode.wait_ready()

    def _metanode(self, member: Member, members: Sequence[Member]) -> Metanode:
        data = self.folder / member.id
        metanode = Metanode(
            name=member.id,
            role="raftmeta",
            arguments=[
                *("--id", member.id, "--data", str(data)),
                *("--http", member.url.removeprefix("http://"), "--raft", member.raft),
                *("--peers", ",".join(each.url for each in members)),
            ],
            url=member.url,
            log=self.folder / f"{member.id}.log",
            environment=self.environment,
        )
        metanode.data, metanode.member = data, member
        self.daemons.append(metanode)
        return metanode

    def add_newcomer(self, number: int, *, peer: Metanode) -> Metanode:
        """Start an empty metanode that is told one address, and is no member yet."""
        member = Member(
            id=f"meta-{number}",
            raft=f"{HOST}:{free_port()}",
            url=f"http://{HOST}:{free_port()}",
        )
        newcomer = self._metanode(member, [peer.member])
        self.metanodes.append(newcomer)
        newcomer.start()
        return newcomer

    @property
    def metanode_urls(self) -> list[str]:
        """HTTP bases of all metanodes."""
        return [metanode.url for metanode in self.metanodes]

    def statuses(self) -> list[Status]:
        """What each running metanode says of itself."""

        async def ask(rpc: AioRpc) -> list[Status]:
            found = []
            for metanode in self.metanodes:
                try:
                    found.append(await read_status(rpc, metanode.url))
                except StoreError:
                    continue
            return found

        return self.run_rpc(ask)

    def leader(self) -> Metanode:
        """The metanode that leads now; waits for one."""

        def find() -> Metanode | None:
            leading = [status for status in self.statuses() if status.state == "leader"]
            newest = max(leading, key=lambda status: status.term, default=None)
            return next((m for m in self.metanodes if newest and m.name == newest.id), None)

        return wait_until(find, what="a leader")

    # --- other roles ---------------------------------------------------------------------

    def add_blobd(self, name: str, *, disks: int = 1, zone: str = "") -> Daemon:
        """Start a blob daemon."""
        folders = [self.folder / name / f"disk-{number}" for number in range(disks)]
        arguments = [text for each in folders for text in ("--data", str(each))]
        return self._add(name, "blobd", [*arguments, *(("--zone", zone) if zone else ())])

    def add_frontend(self, name: str = "frontend-1") -> Daemon:
        """Start a frontend."""
        return self._add(name, "frontend", [])

    def _add(self, name: str, role: str, arguments: Sequence[str]) -> Daemon:
        address = f"{HOST}:{free_port()}"
        daemon = Daemon(
            name=name,
            role=role,
            arguments=[
                *("--id", name, "--http", address),
                *("--metanodes", ",".join(self.metanode_urls), *arguments),
            ],
            url=f"http://{address}",
            log=self.folder / f"{name}.log",
            environment=self.environment,
        )
        self.daemons.append(daemon)
        daemon.start()
        return daemon

    # --- asking ----------------------------------------------------------------------------

    def run(self, story: Callable[[MetaClient], Awaitable[T]]) -> T:
        """Run an async story with a client of these metanodes."""

        async def with_client(rpc: AioRpc) -> T:
            client = MetaClient(rpc, self.metanode_urls, clock=SystemClock(), random=system_random)
            try:
                return await story(client)
            finally:
                await client.close()

        return self.run_rpc(with_client)

    def run_rpc(self, story: Callable[[AioRpc], Awaitable[T]]) -> T:
        """Run an async story with signed calls."""

        async def main() -> T:
            secrets = ClusterSecrets(current=SECRET)
            rpc = AioRpc(signer=Signer(secrets, SystemClock(), system_random))
            try:
                return await story(rpc)
            finally:
                await rpc.close()

        return asyncio.run(main())


def get_json(url: str) -> Any:
    """An unsigned GET of a JSON resource."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        return msgspec.json.decode(answer.read())
