"""A whole local cluster as its users see it: through `ossctl`, HTTP, signals and files.

One `LocalStore` is one folder of `ossctl up`. Tests of this package share one (the fixture
`store` of conftest.py), which is whole again before each of them: nodes a test has killed
or paused are started again.
"""

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar
from urllib.parse import quote, urlsplit

T = TypeVar("T")

OSSCTL = str(Path(sys.executable).with_name("ossctl"))
GRACE_S = 6
SHORT_TIMES = {
    "OSS_GC_GRACE_S": str(GRACE_S),
    "OSS_UPLOAD_EXPIRY_S": "8",
    "OSS_VOLUME_BYTES": str(8 * 1024 * 1024),
    "OSS_HEARTBEAT_S": "0.5",
    "OSS_TEMP_EXPIRY_S": "40",
}
FOREIGN = ("OSS_", "AWS_")
"""Variables of whoever runs the tests that must not reach the cluster."""
ANSWER_S = 60.0
SHARED_DEADLINE_S = 60.0
GONE_S = 10.0

Body = bytes | Iterable[bytes]


def wait_for(condition: Callable[[], T | None], *, what: str, deadline_s: float = 30) -> T:
    """The first true value of `condition()`; AssertionError naming `what` if none in time."""
    last_s = time.monotonic() + deadline_s
    while not (found := condition()):
        assert time.monotonic() < last_s, f"waited {deadline_s} s for: {what}"
        time.sleep(0.1)
    return found


def noise(size_bytes: int, seed: int) -> bytes:
    """Bytes that do not compress; the same for the same seed."""
    generator = random.Random(seed)
    most = 64 * 1024 * 1024  # one call cannot make more than 256 MiB
    pieces = [most] * (size_bytes // most) + [size_bytes % most]
    return b"".join(map(generator.randbytes, pieces))


def text(size_bytes: int) -> bytes:
    """Bytes that compress well and repeat only by lines."""
    line = "{:09d} the quick brown fox jumps over the lazy dog, again and again\n"
    count = size_bytes // len(line.format(0)) + 1
    return "".join(map(line.format, range(count))).encode()[:size_bytes]


@dataclass(frozen=True)
class Answer:
    """A whole HTTP answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error code of an error answer."""
        return str(self.json()["error"]["code"])

    def expect(self, *statuses: int) -> "Answer":
        """Itself, if it has one of these statuses."""
        assert self.status in statuses, (self.status, self.body[:500])
        return self


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with nothing that speaks to or of another cluster."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
    path = f"{Path(OSSCTL).parent}{os.pathsep}{kept.get('PATH', '')}"
    return {**kept, "PATH": path, **extra}


@contextmanager
def default_ports_taken() -> Iterator[None]:
    """A block in which a new cluster takes ports of its own: another one on this machine that
    wants the default ports must not find ours free while our nodes are down."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            held.bind(("127.0.0.1", 9001))
            held.listen()
        except OSError:
            pass  # somebody else has it: just as taken
        yield


class Check(Protocol):
    """What every answer to users may be held to; tests/cluster/conftest.py gives one."""

    def __call__(
        self, method: str, target: str, status: int, headers: Mapping[str, str], body: bytes
    ) -> None:
        """Raises AssertionError."""


class LocalStore:
    """A folder of `ossctl up`, running or not. `check_answer`: of every LocalStore."""

    check_answer: ClassVar[Check | None] = None

    def __init__(self, folder: Path, *, times: Mapping[str, str] = SHORT_TIMES) -> None:
        self.folder = folder
        self.environment = environment({**times, "OSS_DIR": str(folder)})

    # --- ossctl --------------------------------------------------------------------------

    def ossctl(
        self, *words: str, stdin: bytes = b"", code: int = 0, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run `ossctl WORDS` on this cluster; AssertionError unless it ends with `code`."""
        done = subprocess.run(
            [OSSCTL, *words],
            input=stdin,
            capture_output=True,
            env=self.environment,
            cwd=cwd or self.folder.parent,
            timeout=120,
        )
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        assert b"Traceback" not in done.stderr, done.stderr
        return done

    def ossctl_json(self, *words: str) -> list[Any]:
        """The JSON lines of `ossctl WORDS --json`."""
        return [json.loads(line) for line in self.ossctl(*words, "--json").stdout.splitlines()]

    def up(self, *words: str) -> None:
        """`ossctl up --detach`: start what does not run; ready when it returns."""
        self.ossctl("up", "--detach", *words)

    def create(self, *words: str) -> Any:
        """The first `up WORDS`; answers what it said in JSON."""
        with default_ports_taken():
            return json.loads(self.ossctl("up", "--detach", "--json", *words).stdout)

    def facts(self) -> Any:
        """cluster.json."""
        return json.loads((self.folder / "cluster.json").read_text())

    # --- processes -----------------------------------------------------------------------

    def nodes(self) -> list[dict[str, Any]]:
        """Every node of cluster.json."""
        found = self.facts()
        return [*found["metanodes"], *found["blobs"], *found["frontends"]]

    def node(self, name: str) -> dict[str, Any]:
        """The node of that id."""
        return next(node for node in self.nodes() if node["id"] == name)

    def running(self) -> dict[str, int]:
        """Node -> pid of every living process."""
        return {node["id"]: node["pid"] for node in self.nodes() if is_alive(node)}

    def send(self, number: signal.Signals, *names: str) -> None:
        """Send a signal to nodes, all of them close together; after SIGKILL they are gone."""
        nodes = [self.node(name) for name in names]
        for node in nodes:
            assert is_alive(node), f"{node['id']} does not run"
            os.kill(node["pid"], number)
        if number == signal.SIGKILL:
            for node in nodes:
                wait_for(lambda node=node: not is_alive(node), what="its end", deadline_s=GONE_S)

    def kill(self, *names: str) -> None:
        """kill -9."""
        self.send(signal.SIGKILL, *names)

    def make_whole(self) -> None:
        """Every node runs, none is paused, the store is writable."""
        alive = self.running()
        for name, pid in alive.items():
            if is_paused(pid):
                self.send(signal.SIGCONT, name)
        if len(alive) < len(self.nodes()) or not self.all_up():
            self.up()

    def all_up(self) -> bool:
        """Whether the frontend calls every blob daemon up and knows a leader."""
        cluster = self.cluster()
        states = {node["state"] for node in cluster["blobs"]}
        return states == {"up"} and any(m["state"] == "leader" for m in cluster["metanodes"])

    def end(self) -> None:
        """Kill everything; for the end of tests."""
        if not (self.folder / "cluster.json").exists():
            return
        for pid in self.running().values():
            os.kill(pid, signal.SIGKILL)

    # --- logs ----------------------------------------------------------------------------

    def log_sizes(self) -> dict[Path, int]:
        """Size of each log file now."""
        return {path: path.stat().st_size for path in (self.folder / "logs").iterdir()}

    def logged_since(self, sizes: Mapping[Path, int]) -> dict[str, list[str]]:
        """Node -> lines that were logged since `log_sizes`."""
        found = {}
        for path in self.log_sizes():
            with path.open("rb") as file:
                file.seek(sizes.get(path, 0))
                found[path.stem] = file.read().decode(errors="replace").splitlines()
        return found

    # --- HTTP ----------------------------------------------------------------------------

    @property
    def api(self) -> str:
        """host:port of the first frontend."""
        return urlsplit(self.facts()["frontends"][0]["api"]).netloc

    def authorization(self) -> dict[str, str]:
        """The root key as a header."""
        facts = self.facts()
        pair = f"{facts['root_access_key']}:{facts['root_secret_key']}"
        return {"Authorization": "Basic " + b64encode(pair.encode()).decode()}

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        address: str = "",
        anonymous: bool = False,
    ) -> Answer:
        """One request on a connection of its own; `path` is percent-encoded already."""
        sent = {} if anonymous else self.authorization()
        connection = http.client.HTTPConnection(address or self.api, timeout=ANSWER_S)
        try:
            connection.request(method, path, body=body, headers={**sent, **(headers or {})})
            answer = connection.getresponse()
            found = Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()
        if self.check_answer is not None and (not address or path.startswith("/temp/")):
            # What users reach: frontends, and the door of a blob daemon.
            self.check_answer(method, path, found.status, found.headers, found.body)
        return found

    def put(self, name: str, body: bytes) -> Any:
        """Store an object by HTTP; its JSON, whose digest was compared."""
        stored = self.request("PUT", object_path(name), body=body).expect(200).json()
        assert stored["sha256"] == sha256(body).hexdigest()
        return stored

    def put_whole(self, name: str, size_bytes: int, *, seed: int) -> bytes:
        """Store new bytes so that each shard lies on a node of its own; answers them.

        Bytes seen before would share stripes that may have been written while nodes were
        away, and a node is avoided for a few seconds after it was.
        """
        for attempt in range(30):
            body = noise(size_bytes, seed=1000 * seed + attempt)
            missing = self.census()["missing"]
            self.put(name, body)
            found = self.request("GET", f"/locate/{quote(name)}?all=1").expect(200).json()
            nodes = [len(set(stripe["shards"].values())) for stripe in found["stripes"]]
            if set(nodes) == {len(self.facts()["blobs"])} and self.census()["missing"] == missing:
                return body
            time.sleep(0.5)
        raise AssertionError(f"{name} never got all its shards: {nodes} nodes a stripe")

    def get(self, name: str, **headers: str) -> bytes:
        """An object's bytes by HTTP."""
        return self.request("GET", object_path(name), headers=headers).expect(200).body

    def remove_for_good(self, name: str) -> None:
        """Delete every version of an object."""
        for line in self.request("GET", f"/versions/{quote(name)}").expect(200).body.splitlines():
            version = json.loads(line)["Version"]
            self.request("DELETE", f"{object_path(name)}?version={version}").expect(204)

    def cluster(self) -> Any:
        """/v1/cluster."""
        return self.request("GET", "/v1/cluster").expect(200).json()

    def census(self) -> Any:
        """Counts of the catalog."""
        return wait_for(lambda: self.cluster()["census"], what="a census")

    def metrics(self, name: str) -> dict[str, float]:
        """What a node tells, by series."""
        node = self.node(name)
        address = (node.get("api") or node["http"]).removeprefix("http://")
        answer = self.request("GET", "/metrics", address=address, anonymous=True).expect(200)
        lines = [line for line in answer.body.decode().splitlines() if not line.startswith("#")]
        return {series: float(value) for series, value in (line.rsplit(" ", 1) for line in lines)}

    def leader(self) -> str:
        """The id of the metanode that leads."""

        def find() -> str | None:
            nodes = self.cluster()["metanodes"]
            return next((n["id"] for n in nodes if n["state"] == "leader"), None)

        return wait_for(find, what="a leader")

    # --- disks ---------------------------------------------------------------------------

    def volumes(self, node: str) -> list[Path]:
        """The volume files of one blob daemon."""
        folder = Path(self.node(node)["data"]) / "volumes"
        return [path for path in folder.iterdir() if not path.name.startswith("index.sqlite")]

    def volume_bytes(self) -> int:
        """Bytes of all volume files of all blob daemons."""
        total = 0
        for blob in self.facts()["blobs"]:
            for path in self.volumes(blob["id"]):
                try:
                    total += path.stat().st_size
                except FileNotFoundError:
                    continue  # compacted away just now
        return total

    def settled_volume_bytes(self) -> int:
        """The same once compaction rests."""
        last = [-1]

        def rests() -> bool:
            before, last[0] = last[0], self.volume_bytes()
            if before != last[0]:
                time.sleep(1)  # longer than compaction pauses between two steps
            return before == last[0]

        wait_for(rests, what="compaction to rest", deadline_s=SHARED_DEADLINE_S)
        return last[0]

    def wait_collected(self, *, deadline_s: float = SHARED_DEADLINE_S) -> Any:
        """Until nothing waits to be collected; the census then."""

        def collected() -> Any:
            census = self.census()
            waiting = ("dead_stripes", "uploads", "trash", "graveyard")
            return census if not any(census[name] for name in waiting) else None

        return wait_for(collected, what="collection to end", deadline_s=deadline_s)


def object_path(name: str) -> str:
    """The path of an object of the default bucket."""
    return "/objects/" + quote(name, safe="/")


def is_alive(node: Mapping[str, Any]) -> bool:
    """Whether its process runs (a zombie does not)."""
    try:
        command = Path(f"/proc/{node['pid']}/cmdline").read_bytes()
    except OSError:
        return False
    return node["id"].encode() in command.split(b"\0")


def is_paused(pid: int) -> bool:
    """Whether it was stopped by a signal."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
