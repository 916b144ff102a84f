"""Every metanode is lost and nobody made a backup: what blob daemons keep is enough (ADR 20)."""

import shutil
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.cluster.local import SHORT_TIMES, LocalStore, default_ports_taken, noise, wait_for

pytestmark = pytest.mark.cluster

KIB = 1024
FAILURE, USAGE, UNAVAILABLE = 1, 2, 5


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    """A cluster of its own: this test loses its metadata."""
    made = LocalStore(tmp_path / "store", times={**SHORT_TIMES, "OSS_GC_GRACE_S": "4"})
    try:
        made.create()
        yield made
    finally:
        made.end()


def archived(store: LocalStore) -> Any:
    """The archive's state once three daemons keep all that was applied when this was called."""
    told = wait_for(lambda: store.cluster()["archive"], what="a leader that tells of it")
    applied = told["applied_index"]

    def found() -> Any:
        archive = store.cluster()["archive"]
        done = archive and archive["archived_index"] >= applied and archive["copies"] == 3
        return archive if done else None

    return wait_for(found, what="the archive to hold it")


def test_a_store_without_metanodes_or_backup_goes_on_from_its_archive(
    store: LocalStore, tmp_path: Path
) -> None:
    bodies = written(store)
    key = store.request("POST", "/v1/keys", body=b'{"scopes":["download"]}').expect(200, 201).json()
    first = archived(store)
    store.kill(store.leader())
    bodies |= {"later": noise(300 * KIB, seed=9), "later inline": b"by the next leader"}
    for name in ("later", "later inline"):
        store.put(name, bodies[name])
    second = archived(store)
    assert second["snapshot_index"] == first["snapshot_index"], "the next leader went on with it"
    metrics_tell(store, second)
    shown = store.ossctl("meta", "status").stdout.decode()
    assert "catalog archived up to" in shown and "on 3 of 3 disks" in shown
    store.up()
    lose_every_metanode(store)
    damage(store, second["keepers"])

    file = tmp_path / "rebuilt.backup"
    (told, restored) = store.ossctl_json("meta", "rebuild", str(file), "--yes")
    assert told["index"] >= second["archived_index"] and told["newest_seen"] == told["index"]
    assert len(told["damage"]) == 2 and restored["generation"] > told["generation"] == 1
    assert file.stat().st_mode & 0o077 == 0
    store.ossctl("meta", "verify", str(file))
    store.ossctl("meta", "rebuild", str(file), code=USAGE)  # is never written over
    is_as_it_was(store, bodies, key)
    goes_on(store, first["keepers"])


def metrics_tell(store: LocalStore, archive: dict[str, Any]) -> None:
    """Of the leader and of a keeper, to whoever scrapes."""

    def metric(node: str, name: str) -> float:
        address = urlsplit(store.node(node)["http"]).netloc
        text = store.request("GET", "/metrics", address=address, anonymous=True).body.decode()
        (line,) = [line for line in text.splitlines() if line.startswith(name)]
        return float(line.split()[-1])

    leader = store.leader()
    assert metric(leader, "oss_archive_index ") >= archive["archived_index"]
    assert metric(leader, "oss_archive_copies ") == 3
    assert metric(leader, "oss_archive_lag_seconds ") < 30
    kept_bytes = archive["snapshot_bytes"] + archive["log_bytes"]
    assert metric(archive["keepers"][0]["node"], "oss_archive_bytes{") >= kept_bytes > 0


def written(store: LocalStore) -> dict[str, bytes]:
    """Objects of every kind; what each of them is now."""
    bodies = {
        "inline": b"a few bytes",
        "coded": noise(300 * KIB, seed=1),
        "long": noise(9 * KIB * KIB, seed=2),
        "twice": noise(100 * KIB, seed=3),
    }
    store.put("twice", b"its first version")
    for name, body in bodies.items():
        store.put(name, body)
    store.put("deleted", b"and only hidden")
    store.ossctl("rm", "deleted")
    store.put("gone", noise(50 * KIB, seed=4))
    store.remove_for_good("gone")
    return bodies


def lose_every_metanode(store: LocalStore) -> None:
    metanodes = store.facts()["metanodes"]
    store.kill(*(node["id"] for node in metanodes))
    for node in metanodes:
        shutil.rmtree(node["data"])


def damage(store: LocalStore, keepers: list[dict[str, Any]]) -> None:
    """A flipped bit in the snapshot that is asked for first, another in the next one's log."""
    in_order = sorted(keepers, key=lambda keeper: keeper["node"])
    for keeper, kind in zip(in_order, ("snapshot", "log"), strict=False):
        folder = Path(store.node(keeper["node"])["data"]) / "archive"
        path = max(folder.glob(f"{kind}-*"))
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


def is_as_it_was(store: LocalStore, bodies: dict[str, bytes], key: dict[str, Any]) -> None:
    wait_for(lambda: all_written(store), what="every disk to be registered again")
    for name, body in bodies.items():
        assert store.get(name) == body, name
    listed = {found["key"] for found in store.request("GET", "/objects").json()["objects"]}
    assert listed == set(bodies)
    former = store.request("GET", "/objects/twice?version=1").expect(200)
    assert former.body == b"its first version"
    store.request("GET", "/objects/deleted").expect(404)
    assert store.request("GET", "/objects/deleted?version=1").body == b"and only hidden"
    store.request("GET", "/objects/gone?version=1").expect(404)
    pair = b64encode(f"{key['access_key']}:{key['secret_key']}".encode()).decode()
    own = {"Authorization": f"Basic {pair}"}
    inline = store.request("GET", "/objects/inline", headers=own, anonymous=True).expect(200)
    assert inline.body == bodies["inline"]
    store.request("PUT", "/objects/x", body=b"x", headers=own, anonymous=True).expect(403)


def all_written(store: LocalStore) -> bool:
    blobs = store.cluster()["blobs"]
    return all(blob["state"] == "up" and blob["disks"][0]["writable"] for blob in blobs)


def goes_on(store: LocalStore, former: list[dict[str, Any]]) -> None:
    """Uploads, a healthy census, and a new archive beside the old until it is adopted."""
    store.put("after", noise(200 * KIB, seed=5))
    assert store.get("after") == noise(200 * KIB, seed=5)
    found = archived(store)
    assert found["snapshot_index"] > 1 << 32
    for keeper in former:
        folder = Path(store.node(keeper["node"])["data"]) / "archive"
        assert list(folder.glob(f"snapshot-{1:016x}-*")), "of the lost cluster"
    wait_for(
        lambda: store.cluster()["deletion"]["disks_confirmed"] == 6, what="a census of every disk"
    )
    store.ossctl("meta", "adopt")
    assert not store.census()["missing"]


def test_a_rebuild_is_refused_where_there_is_nothing(tmp_path: Path) -> None:
    """Usage, without any cluster."""
    none = LocalStore(tmp_path / "none")
    none.environment["OSS_CLUSTER_SECRET"] = "a secret of nobody"
    with default_ports_taken():
        none.ossctl("meta", "rebuild", "file", code=USAGE, cwd=tmp_path)
        said = none.ossctl(
            *("meta", "rebuild", "file", "--blob", "http://127.0.0.1:9"),
            code=UNAVAILABLE,
            cwd=tmp_path,
        )
        assert b"No blob daemon answered" in said.stderr
        words = ("meta", "rebuild", "file", "--blob", "http://127.0.0.1:9", "--yes")
        assert b"--member" in none.ossctl(*words, code=USAGE, cwd=tmp_path).stderr
    assert list(tmp_path.iterdir()) == []
