"""`ossctl` as people and scripts use it: verbs, JSON, exit codes, a cluster that grows."""

import fcntl
import os
import pty
import signal
import stat
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import IO, BinaryIO

import pytest

from tests.cli.runner import EVERY_REQUEST, ossctl
from tests.cluster.local import OSSCTL, LocalStore, environment, noise, wait_for

pytestmark = pytest.mark.cluster

MIB = 1024 * 1024
OK, FAILURE, USAGE, NOT_FOUND, DENIED, UNAVAILABLE = range(6)
SECRETS = {
    "OSS_ROOT_ACCESS_KEY": "the-root",
    "OSS_ROOT_SECRET_KEY": "root-secret-of-a-file",
    "OSS_CLUSTER_SECRET": "cluster-secret-of-a-file",
    "OSS_SYSTEM_TOKEN": "system-token-of-a-file",
}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStore]:
    """A cluster of this module alone, whose nodes are counted and changed. Its secrets are
    given as files, as a container runtime would."""
    folder = tmp_path_factory.mktemp("ossctl")
    store = LocalStore(folder / "data")
    for name, value in SECRETS.items():
        (folder / name).write_text(value + "\n")
        store.environment[f"{name}_FILE"] = str(folder / name)
    try:
        assert store.create() == store.facts()
        yield store
    finally:
        store.end()


def test_a_new_cluster_is_private_and_its_listing_empty(own: LocalStore) -> None:
    assert stat.S_IMODE((own.folder / "cluster.json").stat().st_mode) == 0o600
    assert own.ossctl("ls").stdout == b""
    assert own.ossctl_json("ls", "--versions") == []
    groups = {name: len(own.facts()[name]) for name in ("metanodes", "blobs", "frontends")}
    assert groups == {"metanodes": 3, "blobs": 6, "frontends": 1}
    assert own.facts()["root_secret_key"] == SECRETS["OSS_ROOT_SECRET_KEY"]
    assert (own.folder / "secret").read_text() == SECRETS["OSS_CLUSTER_SECRET"]


def test_an_object_s_life_in_json(own: LocalStore, tmp_path: Path) -> None:
    file, back = tmp_path / "report.txt", tmp_path / "back.txt"
    for body in (b"first", noise(5 * MIB, seed=1)):
        file.write_bytes(body)
        (put,) = own.ossctl_json("put", str(file))
        assert (put["bucket"], put["key"], put["size"]) == ("objects", "report.txt", len(body))
        assert put["sha256"] == sha256(body).hexdigest()
    (entry,) = own.ossctl_json("ls")
    assert (entry["key"], entry["version"], entry["size"]) == ("report.txt", 2, 5 * MIB)
    (facts,) = own.ossctl_json("stat", "report.txt", "--version", "1")
    assert (facts["version"], facts["size"], facts["etag"]) == (1, 5, sha256(b"first").hexdigest())
    (got,) = own.ossctl_json("get", "report.txt", str(back))
    assert got["size"] == 5 * MIB and back.read_bytes() == file.read_bytes()
    assert own.ossctl("get", "report.txt", "-", "--version", "1").stdout == b"first"

    (deleted,) = own.ossctl_json("rm", "report.txt")
    assert deleted["deleted"]
    own.ossctl("cat", "report.txt", code=NOT_FOUND)
    history = own.ossctl_json("versions", "report.txt")
    assert [(v["version"], v["is_marker"]) for v in history] == [(3, True), (2, False), (1, False)]
    assert own.ossctl_json("ls", "--versions") == history
    shown = own.ossctl("ls", "--versions").stdout.decode().splitlines()
    assert [line.split()[:2] for line in shown] == [
        ["VERSION", "SIZE"],
        ["3", "deleted"],
        ["2", "5.0"],
        ["1", "5"],
    ]
    assert "current" in shown[1] and all(line.endswith("report.txt") for line in shown[1:])
    (revealed,) = own.ossctl_json("undelete", "report.txt")
    assert revealed["version"] == 2
    own.ossctl("rm", "report.txt", "--version", "2")
    assert own.ossctl("cat", "report.txt").stdout == b"first"
    own.ossctl("rm", "report.txt", "--version", "1")
    own.ossctl("cat", "report.txt", code=NOT_FOUND)


def test_what_people_read_names_what_they_did(own: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "a [b] c.txt").write_bytes(b"x" * 2048)
    said = own.ossctl("put", "a [b] c.txt", "people/", cwd=tmp_path).stdout.decode()
    assert "people/a [b] c.txt" in said and "version 1" in said and "2.0 KiB" in said
    assert own.ossctl("ls").stdout.decode().split() == ["people/"]
    long = own.ossctl("ls", "-l", "-r").stdout.decode()
    assert "2.0 KiB" in long and "people/a [b] c.txt" in long
    assert "current" in own.ossctl("versions", "people/a [b] c.txt").stdout.decode()
    assert "2048" in own.ossctl("stat", "people/a [b] c.txt").stdout.decode()
    status = own.ossctl("cluster", "status").stdout.decode()
    assert status.count("meta-") == 3 and status.count("blob-") == 6 and "leader" in status
    own.put("people/" + "long" * 200, b"")
    lines = own.ossctl("ls", "-l", "people/").stdout.decode().splitlines()
    assert len(lines) == 3 and "people/" + "long" * 200 in lines[2]  # nothing folds in a pipe
    own.ossctl("rm", "-r", "people/")


def test_folders_go_in_and_come_out(own: LocalStore, tmp_path: Path) -> None:
    tree = {"a.txt": b"a", "deep/b.bin": noise(70_000, seed=2), "deep/er/empty": b""}
    for name, body in tree.items():
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    own.ossctl("put", "photos", code=USAGE, cwd=tmp_path)  # a folder needs -r
    own.ossctl("put", "-r", "photos", cwd=tmp_path)
    own.ossctl("put", "-r", "photos", "photos-old/", cwd=tmp_path)
    own.ossctl("get", "-r", "photos", "copy", cwd=tmp_path)
    copy = tmp_path / "copy"
    found = {str(p.relative_to(copy)): p.read_bytes() for p in copy.rglob("*") if p.is_file()}
    assert found == tree
    removed = own.ossctl_json("rm", "-r", "photos/")
    assert len(removed) == 3
    kept = {e["key"] for e in own.ossctl_json("ls", "-r", "photos")}
    assert kept == {f"photos-old/{name}" for name in tree}
    own.ossctl("get", "-r", "photos", "nothing", code=NOT_FOUND, cwd=tmp_path)
    assert not (tmp_path / "nothing").exists()


def test_buckets_have_their_own_verbs(own: LocalStore) -> None:
    own.ossctl("bucket", "create", "backups", "--profile", "2+1")
    own.ossctl("put", "-", "oss://backups/x", stdin=b"in a bucket")
    assert own.ossctl("cat", "x", "-b", "backups").stdout == b"in a bucket"
    listed = {b["name"]: b["profile"] for b in own.ossctl_json("bucket", "ls")}
    assert listed["backups"] == "2+1"
    own.ossctl("bucket", "rm", "backups", code=FAILURE)
    own.ossctl("rm", "oss://backups/x", "--version", "1")
    own.ossctl("bucket", "rm", "backups")


def test_exit_codes_tell_scripts_what_happened(own: LocalStore, tmp_path: Path) -> None:
    own.ossctl("get", "no-such-object", code=NOT_FOUND)
    assert list(own.folder.parent.glob("*no-such-object*")) == []
    own.ossctl("put", str(tmp_path / "no-such-file"), code=USAGE)
    own.ossctl("cat", "n" * 1025, code=USAGE)
    own.ossctl("ls", "--no-such-option", code=USAGE)
    own.ossctl("rm", "x", "-r", "--version", "1", code=USAGE)
    for words in (  # what only the store knows to be wrong
        ("key", "create", "-s", "fly"),
        ("key", "create", "-s", "info", "-b", "B@D"),
        ("key", "create", "-s", "info", "--expires", "0s"),
        ("token", "create", "zz", "-t", "upload"),
        ("token", "create", "0" * 64, "-t", "sideways"),
        ("token", "create", "0" * 64, "-t", "upload", "--expires", "999999999w"),
        ("prune", "--keep", "1001"),
    ):
        own.ossctl(*words, code=USAGE)
    assert [key["access_key"] for key in own.ossctl_json("key", "ls")] == ["the-root"]
    assert len(own.ossctl_json("token", "create", "AB" * 32, "-t", "upload")) == 1
    unknown = own.ossctl("stop", "meta-9", code=USAGE).stderr.decode()
    assert "meta-1" in unknown and "blob-6" in unknown  # it names those there are
    own.ossctl("up", "--detach", "--blobs", "2", code=USAGE)  # it would have to shrink

    done = subprocess.run(
        [OSSCTL, "ls"], env=environment({}), cwd=own.folder.parent, capture_output=True
    )
    assert done.returncode == USAGE and b"ossctl up" in done.stderr


def test_with_a_wrong_key_every_command_is_denied_and_leaves_nothing(
    own: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(noise(8 * MIB, seed=4))
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a").touch()
    (tmp_path / "tree" / "b").touch()
    api = own.facts()["frontends"][0]["api"]
    for words in EVERY_REQUEST:
        result = ossctl(api, *words)
        assert result.exit_code == DENIED, (words, result.output)
        first = result.output.splitlines()[0]
        assert first.startswith("ossctl: ") and first.endswith("access key or its secret is wrong.")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "tree"]


def test_what_is_missing_is_named(own: LocalStore, tmp_path: Path) -> None:
    own.put("once", b"1")
    (tmp_path / "tree").mkdir()
    for number in range(12):
        (tmp_path / "tree" / str(number)).write_text("x")

    def missing(*words: str) -> str:
        return own.ossctl(*words, code=NOT_FOUND, cwd=tmp_path).stderr.decode()

    said = missing("put", "-r", "tree", "oss://nowhere/")
    assert "There is no bucket 'nowhere'." in said
    assert said.endswith("ossctl: 8 of 12 failed, 0 done, 4 not begun\n")
    assert missing("put", "tree/1", "-b", "nowhere") == "ossctl: There is no bucket 'nowhere'.\n"
    assert missing("stat", "gone") == "ossctl: There is no object 'gone'.\n"
    assert "no bucket 'nowhere'" in missing("stat", "oss://nowhere/gone")
    assert "gone" in missing("versions", "gone", "--json")
    assert "no version" in missing("stat", "once", "--version", "3")


def on_a_terminal(own: LocalStore, *words: str, stdout: BinaryIO) -> str:
    """What a command draws on a terminal that is its standard error alone."""
    outer, inner = pty.openpty()
    drawn = b""
    try:
        done = subprocess.Popen(
            [OSSCTL, *words],
            env={**own.environment, "TERM": "xterm", "COLUMNS": "100"},
            cwd=own.folder.parent,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=inner,
        )
        os.close(inner)
        while True:
            try:
                piece = os.read(outer, 1 << 16)
            except OSError:  # its other end was closed: EIO
                break
            if not piece:
                break
            drawn += piece
        assert done.wait(60) == OK, drawn
    finally:
        os.close(outer)
    return drawn.decode()


@pytest.mark.parametrize(
    "words",
    [["put", "moving", "moved"], ["get", "moved", "back"], ["get", "moved", "-"], ["cat", "moved"]],
)
def test_a_terminal_sees_how_far_it_is_and_a_file_the_output_alone(
    own: LocalStore, tmp_path: Path, words: list[str]
) -> None:
    body = noise(20 * MIB, seed=5)
    (own.folder.parent / "moving").write_bytes(body)
    if words[0] != "put":
        own.put("moved", body)
    with (tmp_path / "out").open("wb") as out:
        drawn = on_a_terminal(own, *words, stdout=out)
    assert "20.0/20.0 MiB" in drawn and "━" in drawn
    said = (tmp_path / "out").read_bytes()
    if words[-1] in ("moved", "-") and words[0] != "put":
        assert said == body
    else:
        assert said.startswith(b"moved ") and b"20.0 MiB" in said
    quiet = own.ossctl(*words)
    assert b"20.0/20.0" not in quiet.stderr


def test_an_interrupted_transfer_leaves_nothing_behind(own: LocalStore, tmp_path: Path) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        for seed in range(3):
            file.write(noise(64 * MIB, seed=100 + seed))
    own.ossctl("put", str(big), "whole")

    def interrupted(*words: str, when: Callable[[], object], what: str) -> None:
        process = subprocess.Popen(
            [OSSCTL, *words],
            env=own.environment,
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        wait_for(when, what=what)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
        assert (process.returncode, said) == (FAILURE, b"ossctl: interrupted\n"), words

    parts = tmp_path.glob
    before = own.volume_bytes()
    big.write_bytes(noise(128 * MIB, seed=200))
    interrupted(
        "put", str(big), "half", when=lambda: own.volume_bytes() > before, what="its first bytes"
    )
    own.ossctl("stat", "half", code=NOT_FOUND)
    interrupted("get", "whole", "copy", when=lambda: list(parts(".*.part")), what="its file")
    assert [path.name for path in tmp_path.iterdir()] == ["big"]


def test_a_terminal_that_says_nothing_can_be_interrupted(own: LocalStore) -> None:
    process = subprocess.Popen(
        [OSSCTL, "put", "-", "never"],
        env=own.environment,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(b"some")
    process.stdin.flush()
    waiting = (own.folder / "logs" / "frontend-1.log").stat
    assert waiting().st_size  # it runs
    wait_for(lambda: has_read_all(process.stdin), what="its start")
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == FAILURE
    own.ossctl("stat", "never", code=NOT_FOUND)


def has_read_all(pipe: IO[bytes] | None) -> bool:
    """Whether the reader of a pipe has taken everything written to it."""
    assert pipe is not None
    left = fcntl.ioctl(pipe.fileno(), termios.FIONREAD, b"\0" * 4)
    return int.from_bytes(left, sys.byteorder) == 0


def test_a_reader_that_has_seen_enough_is_no_error_to_tell(own: LocalStore) -> None:
    own.put("long", noise(20 * MIB, seed=6))
    script = f"{OSSCTL} cat long | head -c 5 | wc -c"
    done = subprocess.run(["sh", "-c", script], env=own.environment, capture_output=True)
    assert (done.stdout.strip(), done.stderr) == (b"5", b"")
    full = subprocess.run(
        ["sh", "-c", f"{OSSCTL} cat long > /dev/full"], env=own.environment, capture_output=True
    )
    assert full.returncode == FAILURE
    assert full.stderr == b"ossctl: standard output: No space left on device\n"


def test_a_cluster_grows_by_up_alone(own: LocalStore) -> None:
    own.up("--frontends", "2", "--blobs", "7")
    (status,) = own.ossctl_json("cluster", "status")
    assert {b["id"]: b["state"] for b in status["blobs"]}["blob-7"] == "up"
    assert len(status["blobs"]) == 7
    body = noise(48 * MIB, seed=3)  # six stripes: one of them surely uses the newcomer
    own.put("grown", body)
    assert sum(path.stat().st_size for path in own.volumes("blob-7")) > MIB
    second = own.facts()["frontends"][1]["api"].removeprefix("http://")
    assert own.request("GET", "/objects/grown", address=second).expect(200).body == body
    own.request("PUT", "/objects/by-second", body=b"2", address=second).expect(200)
    assert own.get("by-second") == b"2"  # seen by the first at once


def test_ossctl_goes_on_when_one_of_two_frontends_is_dead(own: LocalStore) -> None:
    own.up("--frontends", "2")
    assert own.ossctl_json("kill", "frontend-1") == [{"id": "frontend-1", "killed": True}]
    own.ossctl("put", "-", "by-the-other", stdin=b"still served")
    assert own.ossctl("cat", "by-the-other").stdout == b"still served"
    own.ossctl("start", "frontend-1")
    assert own.get("by-the-other") == b"still served"


def test_nodes_stop_start_and_are_killed_by_name(own: LocalStore) -> None:
    before = own.running()
    assert b"stopped" in own.ossctl("stop", "blob-1").stdout
    assert b"not running" in own.ossctl("stop", "blob-1").stdout
    assert b"killed" in own.ossctl("kill", "meta-2").stdout
    assert before.keys() - own.running().keys() == {"blob-1", "meta-2"}
    wait_for(
        lambda: {m["id"]: m["state"] for m in own.cluster()["metanodes"]}["meta-2"] == "down",
        what="the dead metanode to be shown as down",
    )
    assert own.ossctl_json("kill", "meta-2") == [{"id": "meta-2", "killed": False}]
    assert own.ossctl_json("stop", "meta-2") == [{"id": "meta-2", "stopped": False}]
    (started,) = own.ossctl_json("start", "blob-1")
    assert started == {"id": "blob-1", "pid": own.node("blob-1")["pid"], "started": True}
    assert own.ossctl_json("start", "blob-1") == [{**started, "started": False}]
    own.ossctl("start", "meta-2")
    after = own.running()
    assert after.keys() == before.keys()
    assert after["blob-1"] != before["blob-1"] and after["blob-2"] == before["blob-2"]


def test_down_stops_everything_and_leaves_clean_logs(own: LocalStore) -> None:
    running = set(own.running())
    (said,) = own.ossctl_json("down")
    assert set(said["stopped"]) == running and len(running) == len(own.nodes())
    assert own.running() == {}
    assert own.ossctl_json("down") == [{"stopped": []}]
    said = own.ossctl("cluster", "status", code=UNAVAILABLE).stderr.decode()
    assert "not running: meta-1, meta-2" in said and "frontend-1" in said and "ossctl up" in said
    assert "ossctl up" in own.ossctl("ls", code=UNAVAILABLE).stderr.decode()
    for path in own.log_sizes():
        assert "Traceback" not in path.read_text(), path
