"""The past, with real processes: read it, and have it back while a leader dies."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.local import LocalStore

pytestmark = pytest.mark.cluster

COUNT = 60
NOT_FOUND = 3


def fill(store: LocalStore, folder: Path, prefix: str, body: bytes) -> None:
    """COUNT small objects and a large one below the prefix."""
    tree = folder / body.decode()[:4].strip()
    tree.mkdir()
    for number in range(COUNT):
        (tree / f"{number:03}").write_bytes(body + b"%d" % number)
    (tree / "large").write_bytes(body * 50_000)
    store.ossctl("put", "-r", str(tree), prefix)


def moment() -> str:
    """Now, between two writes: unix seconds with a fraction."""
    time.sleep(0.01)
    now = f"{time.time():.6f}"
    time.sleep(0.01)
    return now


def names(listed: list[Any], prefix: str) -> list[str]:
    return [entry["key"].removeprefix(prefix) for entry in listed]


def test_a_prefix_is_read_and_restored_as_it_was_while_the_leader_dies(
    store: LocalStore, tmp_path: Path
) -> None:
    prefix = "travel/"
    fill(store, tmp_path, prefix, b"good")
    then = moment()
    fill(store, tmp_path, prefix, b"bad ")
    for number in range(20):
        store.request("DELETE", f"/objects/{prefix}{number:03}").expect(204)
    store.put(f"{prefix}made since", b"new")
    everything = [f"{number:03}" for number in range(COUNT)] + ["large"]

    assert names(store.ossctl_json("ls", "-r", prefix, "--at", then), prefix) == everything
    store.ossctl("get", "-r", prefix, str(tmp_path / "back"), "--at", then)
    assert (tmp_path / "back" / "007").read_bytes() == b"good7"
    assert (tmp_path / "back" / "large").read_bytes() == b"good" * 50_000
    assert store.ossctl("cat", f"{prefix}059", "--at", then).stdout == b"good59"
    (facts,) = store.ossctl_json("stat", f"{prefix}059", "--at", then)
    assert (facts["version"], facts["size"]) == (1, 6)
    store.ossctl("cat", f"{prefix}made since", "--at", then, code=NOT_FOUND)

    words = ("restore-prefix", prefix, "--at", then)
    (said,) = store.ossctl_json(*words, "--dry-run")
    assert (said["restored"], said["hidden"], said["dry_run"]) == (COUNT + 1, 1, True)
    before = store.ossctl_json("ls", "--versions", prefix)
    store.kill(store.leader())
    (done,) = store.ossctl_json(*words)
    assert {**done, "dry_run": True, "began": said["began"]} == said
    after = store.ossctl_json("ls", "--versions", prefix)
    assert len(after) == len(before) + COUNT + 2, "each once, and nothing was taken away"
    assert names(store.ossctl_json("ls", "-r", prefix), prefix) == everything
    assert store.get(f"{prefix}large") == b"good" * 50_000
    assert store.get(f"{prefix}007") == b"good7"
    (again,) = store.ossctl_json(*words)
    assert (again["visited"], again["objects"]) == (COUNT + 2, [])
    audited = store.request("GET", "/v1/audit?action=restore&newest=1&limit=1").json()
    assert audited["entries"][0]["target"] == f"objects/{prefix}"


def test_what_was_deleted_since_comes_back_and_what_was_pruned_is_said_to_be_gone(
    unharmed: LocalStore,
) -> None:
    store, prefix = unharmed, "lost/"
    for name in ("a", "b", "c"):
        store.put(prefix + name, b"first of " + name.encode())
    first = moment()
    store.put(f"{prefix}a", b"second")
    store.ossctl("rm", f"{prefix}c")
    since = moment()
    for name in ("a", "b"):
        store.ossctl("rm", prefix + name)
    (done,) = store.ossctl_json("undelete", prefix, "--since", since)
    assert (done["restored"], names(done["objects"], prefix)) == (2, ["a", "b"])
    told = store.ossctl("undelete", prefix, "--since", since).stdout.decode()
    assert "0 come back of 3 names looked at" in told
    assert store.get(f"{prefix}a") == b"second"
    store.ossctl("cat", f"{prefix}c", code=NOT_FOUND)

    store.ossctl("prune", f"{prefix}a", "--keep", "1", "--yes")
    listed = store.ossctl("ls", "-r", prefix, "--at", first)
    assert listed.stdout.decode().split() == [f"{prefix}b", f"{prefix}c"]
    assert b"lost/a: was version 1 then, which was removed since: pruned" in listed.stderr
    gone = store.ossctl("cat", f"{prefix}a", "--at", first, code=NOT_FOUND)
    assert b"removed since: pruned, expired or deleted for good" in gone.stderr
    told = store.ossctl("restore-prefix", prefix, "--at", first).stdout.decode()
    assert "1 removed: left alone" in told and "1 becomes again" in told
    assert (store.get(f"{prefix}a"), store.get(f"{prefix}c")) == (b"second", b"first of c")
