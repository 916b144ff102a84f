"""`python -m tests.demo [FILE]`: the store's main job on a real file, while its processes die.

Tells what it does and what came of it. Exits 0 only if every step held, and leaves neither a
process nor a file behind, however it ends.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cli.output import human_bytes
from osscore.errors import StoreError
from tests.demo import files
from tests.demo.stage import Stage, StepFailed, hold, say, title, wait_for
from tests.interruption import Interrupted, interruptible

SECONDS_MAX = 100
"""With the time it takes to stop everything, two minutes."""
PUTS_MAX = 3
ROOM_FACTOR = 6
"""Two versions coded at 4+2, a copy of the second, both fetched: about six times the file."""
PARITY = 6 / 4


@dataclass(frozen=True, slots=True)
class Version:
    """A stored version: `stripes` is stripe -> how many bytes of the version it holds."""

    number: int
    sha256: str
    stripes: Mapping[str, int]


@dataclass(slots=True)
class Play:
    """The stage, the object, and what was put so far."""

    stage: Stage
    name: str
    puts: list[Version] = field(default_factory=list)
    victims: list[str] = field(default_factory=list)


def choose_file(wanted: str, folder: Path) -> Path:
    """The file to store. Raises StepFailed when it cannot be used."""
    title(1, "A file")
    if wanted:
        path = Path(wanted).absolute()
        if not path.is_file():
            raise StepFailed(f"there is no file {path}")
        if not path.stat().st_size:
            raise StepFailed(f"{path} is empty: it has no byte to lose")
    elif (found := files.large_file()) is not None:
        path = found
    else:
        say("This machine has no file of 64 MiB; an archive of Python's library will do.")
        path = folder / "python-library.tar"
        files.archive_library(path)
    size_bytes = path.stat().st_size
    if shutil.disk_usage(folder).free < ROOM_FACTOR * size_bytes:
        raise StepFailed(
            f"{folder.parent} has no room for {ROOM_FACTOR} times {human_bytes(size_bytes)}; "
            "choose a smaller FILE, or another folder by TMPDIR"
        )
    say(f"{path}, {human_bytes(size_bytes)}, is version 1.")
    return path


def change_file(file: Path, folder: Path) -> Path:
    """A second version of the file, below `folder`."""
    second = folder / f"changed-{file.name}"
    start = files.write_second_version(file, second)
    say(
        f"Version 2 is a copy with {min(files.EDIT_BYTES, file.stat().st_size)} bytes in its "
        f"middle changed, from byte {start} on: another content, of which most is the same."
    )
    return second


def start_cluster(stage: Stage) -> None:
    """Ten processes, ready when the command returns."""
    title(2, "A cluster: 3 metanodes, 6 blob daemons, 1 frontend, each a process of its own")
    stage.ossctl("up", "--detach")
    hold(len(stage.running()) == 10, "ten processes run")


def put_both(play: Play, first: Path, second: Path) -> tuple[Version, Version]:
    """Store the file twice under one name."""
    title(3, "Put it twice: two versions of one object")
    stored = put(play, first), put(play, second)
    for version in stored:
        say(f"version {version.number}: SHA-256 {version.sha256}")
    hold(stored[0].sha256 != stored[1].sha256, "the two versions differ")
    return stored


def put(play: Play, file: Path) -> Version:
    """Store a file so that it lies on six nodes. Raises StepFailed.

    A write is acknowledged with a shard missing when a disk takes longer than two seconds for
    it. Then two deaths may be one too many, so that the file is put again.
    """
    folder = play.stage.folder  # where `ossctl` runs: short names will do
    for _ in range(PUTS_MAX):
        missing = play.stage.census()["missing"]
        shown = file.relative_to(folder) if file.is_relative_to(folder) else file
        play.stage.ossctl("put", str(shown), play.name)
        version, is_spread = read_version(play, files.sha256_of(file))
        play.puts.append(version)
        hold(version.number == len(play.puts), f"it is version {version.number}")
        if is_spread and play.stage.census()["missing"] == missing:
            return version
        say("A disk was so slow that a piece is missing there: once more.")
    raise StepFailed(f"the disks of this machine are too slow: put {PUTS_MAX} times in vain")


def read_version(play: Play, sha256: str) -> tuple[Version, bool]:
    """The current version, and whether no node holds two shards of one stripe of it."""
    facts = play.stage.stat(play.name)
    if facts["etag"] != sha256:
        raise StepFailed(f"{play.name} has another SHA-256 than the file that was put")
    located = play.stage.locate(play.name)
    is_spread = all(len(set(s["shards"].values())) == len(s["shards"]) for s in located)
    # An object without stripes is so small that it lies whole in the catalog.
    stripes = {stripe["stripe"]: stripe["length"] for stripe in located if stripe["stripe"]}
    return Version(facts["version"], sha256, stripes), is_spread


def list_it(play: Play) -> None:
    """What is there."""
    title(4, "List")
    listing = play.stage.ossctl("ls", "--recursive", "--long")
    hold(play.name in listing, "the object is listed")
    lines = play.stage.ossctl("versions", play.name).splitlines()[1:]
    hold(len(lines) == len(play.puts), f"with its {len(play.puts)} versions")


def show_room(play: Play, first: Version, second: Version) -> None:
    """Dedup and compression in numbers."""
    title(5, "What it occupies")
    census = play.stage.census()
    distinct = dict(second.stripes)
    for version in play.puts:
        distinct.update(version.stripes)
    plain_bytes, stored_bytes = sum(distinct.values()), census["stored_bytes"]
    disk_bytes = play.stage.volume_bytes()
    rows = [
        (f"{len(play.puts)} versions, as their owner counts", census["logical_bytes"]),
        (f"distinct stripes ({len(distinct)}), each kept once", plain_bytes),
        ("the same with 2 parity shards for 4 of data", int(plain_bytes * PARITY)),
        ("the same compressed first, where that pays", stored_bytes),
        ("files on the disks of the six blob daemons", disk_bytes),
    ]
    for text, size_bytes in rows if distinct else ():
        say(f"{text:<46}{size_bytes:>14,} bytes  {human_bytes(size_bytes):>10}")
    hold(census["stripes"] == len(distinct), f"the catalog counts {len(distinct)} stripes too")
    hold(disk_bytes >= stored_bytes, "every acknowledged byte is on a disk")
    if not distinct:
        say("So small a file lies whole in the catalog, on all metanodes: nothing to share.")
        return
    new = second.stripes.keys() - first.stripes.keys()
    shared_count = len(second.stripes) - len(new)
    hold(len(new) == 1, f"dedup: version 2 added 1 stripe and shares {shared_count}")
    compressed = stored_bytes / (plain_bytes * PARITY)
    whole_bytes = census["logical_bytes"] * PARITY
    say(
        f"Compression alone left {compressed:.0%} of the bytes, dedup and compression together "
        f"{stored_bytes / whole_bytes:.0%}. The files on the disks may hold more for a while: "
        "stripes that were on their way before the store had compared them."
    )


def kill_three(play: Play) -> None:
    """SIGKILL for the leader and for two blob daemons that hold data."""
    title(6, "kill -9: the metadata leader, and two blob daemons that hold parts of the file")
    blobs, leader = play.stage.blobs(), play.stage.leader()
    shards = play.stage.locate(play.name)[0]["shards"]
    holders = [blobs[shards[index]] for index in sorted(shards) if shards[index] in blobs]
    # A file that lies in the catalog has no holders; any two daemons may die then.
    play.victims = [leader, *(holders or sorted(blobs.values()))[:2]]
    for victim in play.victims:
        play.stage.ossctl("kill", victim)
    hold(set(play.stage.running()).isdisjoint(play.victims), "three processes are gone")


def get_both(play: Play, versions: tuple[Version, Version]) -> None:
    """Both versions come back byte for byte."""
    title(7, "Get both versions back from what is left")
    for version in versions:
        back, began_s = play.stage.folder / f"version-{version.number}", time.monotonic()
        play.stage.ossctl("get", play.name, back.name, "--version", str(version.number))
        say(f"took {time.monotonic() - began_s:.1f} s")
        found = files.sha256_of(back)
        say(f"put: {version.sha256}\ngot: {found}")
        hold(found == version.sha256, f"version {version.number} is the same byte for byte")
    hold(set(play.stage.running()).isdisjoint(play.victims), "and the three are still dead")
    leader = wait_for(lambda: play.stage.leader(), "a new leader")
    play.stage.ossctl("cluster", "status")
    hold(leader not in play.victims, f"{leader} leads now, elected by the two that were left")


def stop(stage: Stage) -> None:
    """Stop what lives."""
    title(8, "Stop everything")
    stage.ossctl("down")
    hold(not stage.running(), "no process is left; the folder goes with the demo")


def play_all(wanted: str, stage: Stage) -> None:
    """Every step in turn. Raises StepFailed, Interrupted."""
    first = choose_file(wanted, stage.folder)
    second = change_file(first, stage.folder)
    play = Play(stage, name=f"demo/{first.name}")
    start_cluster(stage)
    versions = put_both(play, first, second)
    list_it(play)
    show_room(play, *versions)
    kill_three(play)
    get_both(play, versions)
    stop(stage)


def main() -> int:
    """Play; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description=__doc__)
    parser.add_argument("file", nargs="?", default="", help="what to store")
    parser.add_argument(
        "--ossctl", default=str(Path(sys.executable).with_name("ossctl")), help="the command"
    )
    options = parser.parse_args()
    began_s = time.monotonic()
    with interruptible(seconds_max=SECONDS_MAX):
        stage = Stage(Path(tempfile.mkdtemp(prefix="raftoss-demo-")), options.ossctl)
        try:
            play_all(options.file, stage)
        except (StepFailed, StoreError, OSError, Interrupted) as error:
            sys.stdout.write(f"\nDemo FAILED: {error}\n")
            return 1
        finally:
            stage.clear()
    sys.stdout.write(f"\nDemo passed: every step held, in {time.monotonic() - began_s:.0f} s.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
