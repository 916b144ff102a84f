"""The folder, ports and processes of a local cluster."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cli import local_cluster, local_process
from cli.connection import Connection, connect
from cli.local_cluster import Counts
from cli.local_process import Daemon
from cli.output import UsageError
from ossd.config import load
from raftmeta.config import MetaConfig

COUNTS = Counts(metanodes=3, blobs=6, frontends=1)


def test_a_new_cluster_has_the_promised_file(tmp_path: Path) -> None:
    cluster = local_cluster.create(tmp_path / "d", COUNTS, {})
    cluster.save()
    path = tmp_path / "d" / "cluster.json"
    found = json.loads(path.read_text())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert set(found) == {
        "frontends",
        "metanodes",
        "blobs",
        "root_access_key",
        "root_secret_key",
        "system_token",
    }
    assert [set(n) for n in found["metanodes"]] == [{"id", "http", "raft", "pid", "data"}] * 3
    assert [set(n) for n in found["blobs"]] == [{"id", "http", "pid", "data"}] * 6
    assert [set(n) for n in found["frontends"]] == [{"id", "api", "s3", "pid"}]
    assert len({*_ports(found)}) == 3 * 2 + 6 + 1


def _ports(found: dict[str, list[dict[str, str]]]) -> list[str]:
    nodes = [node for group in ("metanodes", "blobs", "frontends") for node in found[group]]
    return [
        node[name].rpartition(":")[2]
        for node in nodes
        for name in ("http", "raft", "api")
        if name in node
    ]


def test_saved_and_loaded_again_it_is_the_same(tmp_path: Path) -> None:
    cluster = local_cluster.create(tmp_path / "d", COUNTS, {"OSS_GC_GRACE_S": "2"})
    cluster.save()
    assert local_cluster.load(tmp_path / "d") == cluster
    assert cluster.environ({})["OSS_GC_GRACE_S"] == "2"
    assert cluster.environ({"OSS_GC_GRACE_S": "3"})["OSS_GC_GRACE_S"] == "3"


def test_given_credentials_are_used(tmp_path: Path) -> None:
    given = {
        "OSS_ROOT_ACCESS_KEY": "me",
        "OSS_ROOT_SECRET_KEY": "secret",
        "OSS_CLUSTER_SECRET": "0123456789abcdef",
    }
    cluster = local_cluster.create(tmp_path / "d", COUNTS, given)
    assert (cluster.root_access_key, cluster.root_secret_key) == ("me", "secret")
    assert cluster.environ({})["OSS_CLUSTER_SECRET"] == "0123456789abcdef"


SECRETS = {
    "OSS_ROOT_ACCESS_KEY": "me",
    "OSS_ROOT_SECRET_KEY": "secret-of-mine",
    "OSS_CLUSTER_SECRET": "0123456789abcdef",
    "OSS_SYSTEM_TOKEN": "token-of-mine",
}


def test_credentials_given_as_files_are_used_and_every_role_takes_them(tmp_path: Path) -> None:
    given = {"PATH": "/bin"}
    for name, value in {**SECRETS, "OSS_GC_GRACE_S": "7"}.items():
        (tmp_path / name).write_text(value + "\n")
        given[f"{name}_FILE"] = str(tmp_path / name)
    cluster = local_cluster.create(tmp_path / "d", COUNTS, given)
    assert (cluster.root_access_key, cluster.root_secret_key) == ("me", "secret-of-mine")
    assert cluster.environ({}) == {**SECRETS, "OSS_GC_GRACE_S": "7"}
    for environ in (cluster.environ(given), cluster.environ({**given, **SECRETS})):
        assert SECRETS.items() <= environ.items() and environ["PATH"] == "/bin"
        assert [name for name in SECRETS if f"{name}_FILE" in environ] == []
        loaded = load(MetaConfig, role="raftmeta", argv_flags={}, environ=environ, file=None)
        assert loaded.struct.cluster_secret == SECRETS["OSS_CLUSTER_SECRET"]


@pytest.mark.parametrize("name", list(SECRETS))
def test_credential_files_that_say_nothing_are_refused(tmp_path: Path, name: str) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    for value, said in ((str(tmp_path / "absent"), "cannot be read"), (str(empty), "is empty")):
        with pytest.raises(UsageError, match=f"{name}_FILE: .*{said}"):
            local_cluster.create(tmp_path / "d", COUNTS, {f"{name}_FILE": value})
    with pytest.raises(UsageError, match=f"both {name} and {name}_FILE"):
        local_cluster.create(tmp_path / "d", COUNTS, {name: "x", f"{name}_FILE": str(empty)})


def test_commands_take_the_root_key_from_files_too(tmp_path: Path) -> None:
    environ = {"OSS_ENDPOINT": "http://h:1/"}
    for name in ("OSS_ROOT_ACCESS_KEY", "OSS_ROOT_SECRET_KEY"):
        (tmp_path / name).write_text(SECRETS[name])
        environ[f"{name}_FILE"] = str(tmp_path / name)
    found = connect(endpoint=None, directory=None, environ=environ)
    assert found == Connection(("http://h:1",), "me", "secret-of-mine")


def test_a_taken_default_port_means_free_ones_for_all(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 9203))
            taken.listen()
        except OSError:
            pass  # somebody else has it: just as taken
        cluster = local_cluster.create(tmp_path / "d", COUNTS, {})
    urls = [blob["http"] for blob in cluster.blobs]
    assert len(set(urls)) == 6
    ports = {int(url.rpartition(":")[2]) for url in urls}
    assert not ports & {9201, 9203}
    # Outgoing connections take theirs from 32768 on: one could hold that of a stopped node.
    assert all(10_000 <= port < 32_768 for port in ports)


def test_a_folder_with_other_things_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="not empty"):
        local_cluster.create(tmp_path, COUNTS, {})
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_growing_adds_and_never_takes_away(tmp_path: Path) -> None:
    cluster = local_cluster.create(tmp_path / "d", COUNTS, {})
    before = list(cluster.blobs)
    local_cluster.grow(cluster, Counts(3, 8, 2))
    assert cluster.blobs[:6] == before
    assert [blob["id"] for blob in cluster.blobs[6:]] == ["blob-7", "blob-8"]
    with pytest.raises(UsageError, match="never fewer"):
        local_cluster.grow(cluster, Counts(3, 6, 2))
    with pytest.raises(UsageError, match="3 metanodes"):
        local_cluster.grow(cluster, Counts(5, 8, 2))


def test_damaged_files_are_named(tmp_path: Path) -> None:
    cluster = local_cluster.create(tmp_path / "d", COUNTS, {})
    cluster.save()
    for text in ("{", "[]", "{}"):
        (tmp_path / "d" / "cluster.json").write_text(text)
        with pytest.raises(UsageError, match=r"cluster\.json is damaged"):
            local_cluster.load(tmp_path / "d")
        with pytest.raises(UsageError, match=r"cluster\.json cannot be read"):
            connect(endpoint=None, directory=tmp_path / "d", environ={})


def test_an_unknown_node_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    cluster = local_cluster.create(tmp_path / "d", COUNTS, {})
    with pytest.raises(UsageError, match="meta-1, meta-2"):
        cluster.node("meta-9")


def test_a_process_is_known_by_its_id_and_not_by_its_number_alone(tmp_path: Path) -> None:
    code = "import time; print('runs', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code, "--id", "node-1"]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout and process.stdout.readline() == "runs\n"
        assert local_process.is_running(process.pid, "node-1")
        assert not local_process.is_running(process.pid, "node-2")
        assert not local_process.stop(process.pid, "node-2")
        assert process.poll() is None
        assert local_process.stop(process.pid, "node-1", how=signal.SIGKILL)
        assert not local_process.is_running(process.pid, "node-1")
    finally:
        process.kill()
        process.communicate()


def test_a_started_daemon_logs_to_its_file(tmp_path: Path) -> None:
    daemon = Daemon(id="x", role="platform", arguments=(), log=tmp_path / "logs" / "x.log")
    pid = local_process.start(daemon, os.environ)
    local_process.wait_gone(pid, "platform")
    assert "Linux" in local_process.last_lines(daemon.log) or daemon.log.stat().st_size


def test_only_one_chooses_ports_at_a_time_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    inside: list[int] = []

    def choose() -> None:
        for _ in range(50):
            with local_cluster.turn():
                inside.append(1)
                assert sum(inside) == 1
                inside.append(-1)

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(choose) for _ in range(4)]:
            done.result()
    assert list(tmp_path.iterdir()) == []
