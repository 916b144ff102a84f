"""`ossctl` as people and scripts use it: verbs, JSON, exit codes, a cluster that grows."""

import stat
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.cluster.local import OSSCTL, LocalStore, environment, noise, wait_for

pytestmark = pytest.mark.cluster

MIB = 1024 * 1024
OK, FAILURE, USAGE, NOT_FOUND, DENIED, UNAVAILABLE = range(6)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStore]:
    """A cluster of this module alone, whose nodes are counted and changed."""
    store = LocalStore(tmp_path_factory.mktemp("ossctl") / "data")
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
    listed = {b["name"]: b["profile"] for b in own.ossctl_json("bucket", "ls")[0]}
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
    unknown = own.ossctl("stop", "meta-9", code=USAGE).stderr.decode()
    assert "meta-1" in unknown and "blob-6" in unknown  # it names those there are
    own.ossctl("up", "--detach", "--blobs", "2", code=USAGE)  # it would have to shrink

    def alone(*words: str, **variables: str) -> tuple[int, str]:
        done = subprocess.run(
            [OSSCTL, *words], env=environment(variables), cwd=tmp_path, capture_output=True
        )
        return done.returncode, done.stderr.decode()

    api = own.facts()["frontends"][0]["api"]
    keys = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "wrong"}
    code, said = alone("ls", OSS_ENDPOINT=api, **keys)
    assert code == DENIED and "wrong" in said
    code, said = alone("ls", OSS_ENDPOINT="http://127.0.0.1:9", **keys)
    assert code == UNAVAILABLE and "ossctl up" in said
    code, said = alone("ls")
    assert code == USAGE and "ossctl up" in said


def test_a_cluster_grows_by_up_alone(own: LocalStore) -> None:
    own.up("--frontends", "2", "--blobs", "7")
    (status,) = own.ossctl_json("cluster", "status")
    assert {b["id"]: b["state"] for b in status["blobs"]}["blob-7"] == "up"
    assert len(status["blobs"]) == 7
    body = noise(24 * MIB, seed=3)  # six stripes: one of them surely uses the newcomer
    own.put("grown", body)
    assert sum(path.stat().st_size for path in own.volumes("blob-7")) > MIB
    second = own.facts()["frontends"][1]["api"].removeprefix("http://")
    assert own.request("GET", "/objects/grown", address=second).expect(200).body == body
    own.request("PUT", "/objects/by-second", body=b"2", address=second).expect(200)
    assert own.get("by-second") == b"2"  # seen by the first at once


def test_ossctl_goes_on_when_one_of_two_frontends_is_dead(own: LocalStore) -> None:
    own.up("--frontends", "2")
    own.ossctl("kill", "frontend-1")
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
    own.ossctl("start", "blob-1")
    own.ossctl("start", "meta-2")
    after = own.running()
    assert after.keys() == before.keys()
    assert after["blob-1"] != before["blob-1"] and after["blob-2"] == before["blob-2"]


def test_down_stops_everything_and_leaves_clean_logs(own: LocalStore) -> None:
    own.ossctl("down")
    assert own.running() == {}
    assert "ossctl up" in own.ossctl("ls", code=UNAVAILABLE).stderr.decode()
    for path in own.log_sizes():
        assert "Traceback" not in path.read_text(), path
