"""Every metanode is lost; a backup and the blob folders are left (SAFETY rule 16)."""

import json
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.cluster.local import (
    SHORT_TIMES,
    LocalStore,
    default_ports_taken,
    noise,
    wait_for,
)

pytestmark = pytest.mark.cluster

KIB = 1024
MIB = 1024 * KIB
FAILURE, USAGE = 1, 2


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    """A cluster of its own: this test loses its metadata."""
    made = LocalStore(tmp_path / "store", times={**SHORT_TIMES, "OSS_GC_GRACE_S": "4"})
    try:
        made.create()
        yield made
    finally:
        made.end()


def lose_every_metanode(store: LocalStore) -> Path:
    """Kill and wipe them; where the folder of one turns out to be left after all."""
    metanodes = store.facts()["metanodes"]
    store.kill(*(node["id"] for node in metanodes))
    left = store.folder.parent / "left"
    shutil.copytree(metanodes[2]["data"], left)
    for node in metanodes:
        shutil.rmtree(node["data"])
    return left


def deletion(store: LocalStore) -> dict[str, object]:
    found: dict[str, object] = store.cluster()["deletion"]
    return found


def all_written(store: LocalStore) -> bool:
    """Whether every disk is registered with the restored catalog and takes writes."""
    blobs = store.cluster()["blobs"]
    return all(blob["state"] == "up" and blob["disks"][0]["writable"] for blob in blobs)


def shards(store: LocalStore) -> dict[str, int]:
    """Counts of all shards on all disks, by what the catalog says of them."""
    (found,) = store.ossctl_json("repair", "orphans", "--dry-run")
    names = ("examined", "young", "kept", "removed")
    return {name: sum(disk[name]["shards"] for disk in found["disks"]) for name in names}


def test_a_store_goes_on_from_its_backup_with_the_same_blob_folders(
    store: LocalStore, tmp_path: Path
) -> None:
    lost_and_restored(store, tmp_path)
    assert deletion(store)["frozen"]
    assert "Deletion is frozen" in store.ossctl("cluster", "status").stdout.decode()
    adopted(store)


def adopted(store: LocalStore) -> None:
    """Each daemon compares its disk with the restored catalog by itself; then it is adopted."""
    if deletion(store)["disks_confirmed"] == 0:
        told = store.ossctl("meta", "adopt", code=FAILURE).stderr.decode()
        assert "disks have no finished census under generation" in told
    wait_for(lambda: deletion(store)["disks_confirmed"] == 6, what="a census of every disk")
    store.ossctl("meta", "adopt")
    assert not deletion(store)["frozen"]


@pytest.mark.long
def test_a_restored_store_deletes_nothing_until_adopted_and_hears_nobody_of_the_lost(
    store: LocalStore, tmp_path: Path
) -> None:
    bodies, left = lost_and_restored(store, tmp_path)
    stays_until_adopted(store)
    assert store.get("later") == noise(100 * KIB, seed=5)
    reads_back(store, bodies)
    a_metanode_of_the_lost_cluster_has_no_say(store, left)
    a_wiped_metanode_joins_the_restored(store)
    file = str(tmp_path / "catalog.backup")
    store.ossctl("meta", "restore", file, "--yes", code=FAILURE)  # not empty any more


def lost_and_restored(store: LocalStore, tmp_path: Path) -> tuple[dict[str, bytes], Path]:
    """Everything of the backup reads back; answers what is there now, and the folder of a
    metanode of the lost cluster."""
    bodies = {
        "inline": b"a few bytes",
        "one": noise(300 * KIB, seed=1),
        "long": noise(9 * MIB, seed=2),
        "kept": noise(200 * KIB, seed=3),
    }
    for name, body in bodies.items():
        store.put(name, body)
    first = store.put("one", b"second version")
    store.put("one", bodies["one"])
    file = tmp_path / "catalog.backup"
    (told,) = store.ossctl_json("meta", "backup", str(file))
    assert told["counts"]["versions"] == 6 and file.stat().st_mode & 0o077 == 0
    looks_sound(store, file, tmp_path)

    # What the lost cluster went on to do.
    lost = [store.put("later", noise(400 * KIB, seed=4)), store.put("one", b"overwritten")]
    store.ossctl("rm", "long")
    store.remove_for_good("kept")
    left = lose_every_metanode(store)

    (plan,) = store.ossctl_json("meta", "restore", str(file))
    assert plan["dry_run"] and set(plan["metanodes"].values()) == {"down"}
    said = store.ossctl("meta", "restore", str(file), "--yes").stdout.decode()
    assert "adopt" in said and told["cluster_id"] in said
    wait_for(lambda: all_written(store), what="every disk to be registered again")
    reads_back(store, bodies)
    former = store.request("GET", "/objects/one?version=2").expect(200)
    assert former.body == b"second version"
    listed = {found["key"] for found in store.request("GET", "/objects").json()["objects"]}
    assert listed == set(bodies)
    store.request("GET", "/objects/later").expect(404)
    again = [store.put("later", noise(100 * KIB, seed=5)), store.put("one", b"third")]
    ids = [each["version_id"] for each in (first, *lost, *again)]
    assert len(set(ids)) == len(ids) and min(ids[3:]) > max(ids[:3])
    return bodies | {"one": b"third"}, left


def looks_sound(store: LocalStore, file: Path, tmp_path: Path) -> None:
    """A whole backup; one with a flipped bit is not; the catalog opens as plain SQLite."""
    shown = store.ossctl("meta", "verify", str(file)).stdout.decode()
    assert "6 versions" in shown and "every byte" in shown
    broken = tmp_path / "broken.backup"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    broken.write_bytes(data)
    store.ossctl("meta", "verify", str(broken), code=FAILURE)
    store.ossctl("meta", "restore", str(broken), "--yes", code=FAILURE)
    with file.open("rb") as packed, (tmp_path / "catalog.db").open("wb") as plain:
        reader = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
        plain.write(reader.readall())
    with sqlite3.connect(f"file:{tmp_path}/catalog.db?mode=ro", uri=True) as db:
        assert db.execute("SELECT COUNT(*) FROM current_objects").fetchone() == (4,)
    words = ["sqlite-utils", "rows", str(tmp_path / "catalog.db"), "buckets"]
    rows = json.loads(
        subprocess.run(words, capture_output=True, check=True, env=store.environment).stdout
    )
    assert [row["name"] for row in rows] == ["objects"]


def reads_back(store: LocalStore, bodies: dict[str, bytes]) -> None:
    for name, body in bodies.items():
        assert store.get(name) == body, name


def stays_until_adopted(store: LocalStore) -> None:
    """No shard goes while deletion is frozen; then those that nobody can name any more do."""
    assert (
        deletion(store)["frozen"]
        and "Deletion is frozen" in store.ossctl("cluster", "status").stdout.decode()
    )
    store.remove_for_good("one")
    store.put("one", b"third")
    wait_for(lambda: not shards(store)["young"], what="every shard to be older than the grace")
    frozen = shards(store)
    assert (frozen["removed"], frozen["kept"]) == (0, frozen["examined"])
    # Of the backup: two stripes of "long", "kept", and "one", which is dead since; afterwards
    # the lost and the new "later".
    assert frozen["examined"] == 6 * 6
    assert store.census()["dead_stripes"] == 1
    assert deletion(store)["frozen"]
    adopted(store)
    wait_for(lambda: shards(store)["examined"] == 6 * 4, what="what has no name to be deleted")
    actions = [row["action"] for row in store.ossctl_json("audit", "ls", "-n", "1000")]
    assert {"meta.adopt", "meta.restore", "meta.backup"} <= set(actions)


def metanode(store: LocalStore, name: str) -> Any:
    return next(each for each in store.cluster()["metanodes"] if each["id"] == name)


def metanode_logs(store: LocalStore) -> list[str]:
    paths = (store.folder / "logs").glob("meta-*.log")
    return [line for path in paths for line in path.read_text().splitlines()]


def a_metanode_of_the_lost_cluster_has_no_say(store: LocalStore, left: Path) -> None:
    """Its id, cluster and address are those of a member, its log ends in a higher term."""
    node = store.facts()["metanodes"][2]
    store.kill(node["id"])
    shutil.rmtree(node["data"])
    shutil.copytree(left, node["data"])
    store.ossctl("start", node["id"])
    shown = wait_for(
        lambda: found if (found := metanode(store, node["id"]))["state"] != "down" else None,
        what="it to answer",
    )
    assert shown["applied_index"] < 1 << 32 < metanode(store, "meta-1")["applied_index"]
    store.put("while it calls", b"for votes")
    wait_for(
        lambda: any("belongs to another cluster" in line for line in metanode_logs(store)),
        what="its calls to be refused",
    )
    assert metanode(store, node["id"])["state"] == "candidate"
    assert store.get("while it calls") == b"for votes"


def a_wiped_metanode_joins_the_restored(store: LocalStore) -> None:
    node = store.facts()["metanodes"][2]
    store.kill(node["id"])
    shutil.rmtree(node["data"])
    store.ossctl("start", node["id"])
    wait_for(
        lambda: metanode(store, node["id"])["state"] in ("follower", "leader"),
        what="the wiped metanode to follow",
    )


def test_a_backup_is_refused_where_it_does_not_belong(tmp_path: Path) -> None:
    """Usage, without any cluster."""
    none = LocalStore(tmp_path / "none")
    (tmp_path / "text").write_text("no backup")
    with default_ports_taken():
        assert (
            b"no backup" in none.ossctl("meta", "verify", "text", code=FAILURE, cwd=tmp_path).stderr
        )
        none.ossctl("meta", "verify", "missing", code=FAILURE, cwd=tmp_path)
        none.ossctl("meta", "restore", "text", "--yes", code=FAILURE, cwd=tmp_path)
