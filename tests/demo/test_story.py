"""Each step of the demo says so when the store does not do what the step claims."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.demo import __main__ as story
from tests.demo.__main__ import Play
from tests.demo.stage import StepFailed

STRIPE_BYTES = 4 << 20
NAME = "demo/file"
NODES = {f"127.0.0.1:{9200 + number}": f"blob-{number}" for number in range(1, 7)}


class Store:
    """A store of two versions that does everything right, until a test spoils a part of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.contents: list[bytes] = []
        self.alive = ["meta-1", "meta-2", "meta-3", *NODES.values(), "frontend-1"]
        self.stripes = {1: ["a", "b", "c"], 2: ["a", "x", "c"]}
        self.spread = list(NODES)
        self.counted: dict[str, Any] = {"missing": {}, "stripes": 4}
        self.on_disks_bytes = 6 * STRIPE_BYTES
        self.commands: list[str] = []

    def ossctl(self, *words: str) -> str:
        self.commands.append(words[0])
        output: str = getattr(self, "_" + words[0])(*words[1:])
        return output

    def _put(self, file: str, _: str) -> str:
        self.contents.append((self.folder / file).read_bytes())
        return ""

    def _get(self, _: str, back: str, *version: str) -> str:
        (self.folder / back).write_bytes(self.contents[int(version[1]) - 1])
        return ""

    def _ls(self, *_: str) -> str:
        return f"1 MiB  {NAME}\n"

    def _versions(self, _: str) -> str:
        return "VERSION\n" + "1\n" * len(self.contents)

    def _kill(self, node: str) -> str:
        self.alive.remove(node)
        return ""

    def _cluster(self, _: str) -> str:
        return ""

    def _down(self) -> str:
        self.alive = []
        return ""

    def stat(self, _: str) -> dict[str, Any]:
        digest = hashlib.sha256(self.contents[-1])
        return {"version": len(self.contents), "etag": digest.hexdigest()}

    def locate(self, _: str) -> list[dict[str, Any]]:
        shards = {str(index): node for index, node in enumerate(self.spread)}
        return [
            {"stripe": stripe, "length": STRIPE_BYTES, "shards": shards}
            for stripe in self.stripes[min(len(self.contents), 2)]
        ]

    def census(self) -> dict[str, Any]:
        logical_bytes = len(self.contents) * 3 * STRIPE_BYTES
        return {"logical_bytes": logical_bytes, "stored_bytes": 6 * STRIPE_BYTES, **self.counted}

    def volume_bytes(self) -> int:
        return self.on_disks_bytes

    def blobs(self) -> dict[str, str]:
        return NODES

    def leader(self) -> str:
        return next(node for node in self.alive if node.startswith("meta"))

    def running(self) -> list[str]:
        return self.alive


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def play(store: Store) -> None:
    """Every step but the start."""
    files = store.folder / "one", store.folder / "two"
    for file in files:
        file.write_text(file.name)
    play = Play(store, name=NAME)  # type: ignore[arg-type]
    versions = story.put_both(play, *files)
    story.list_it(play)
    story.show_room(play, *versions)
    story.kill_three(play)
    story.get_both(play, versions)
    story.stop(store)  # type: ignore[arg-type]


def test_a_store_that_keeps_its_word_passes(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    play(store)
    assert store.alive == []
    output = " ".join(capsys.readouterr().out.split())
    assert "version 2 added 1 stripe and shares 2" in output
    assert "left 100% of the bytes, dedup and compression together 67%" in output


def spoil(word: str, spoiled: Callable[[Store], Callable[..., str]]) -> Callable[[Store], None]:
    """Another meaning for one `ossctl` command."""
    return lambda store: setattr(store, "_" + word, spoiled(store))


def forget_second(store: Store) -> Callable[..., str]:
    put = store._put
    return lambda *words: "" if store.contents else put(*words)


def revive(store: Store) -> Callable[..., str]:
    get = store._get

    def get_and_revive(*words: str) -> str:
        store.alive.append("blob-1")
        return get(*words)

    return get_and_revive


def swap(store: Store) -> Callable[..., str]:
    get = store._get
    return lambda name, back, option, version: get(name, back, option, str(3 - int(version)))


SPOILED = [
    (spoil("put", forget_second), "another SHA-256"),
    (spoil("ls", lambda _: lambda *_: "no such thing\n"), "listed"),
    (spoil("versions", lambda _: lambda *_: "VERSION\n2\n"), "with its 2 versions"),
    (lambda store: store.stripes.update({2: ["x", "y", "z"]}), "counts 6 stripes"),
    (
        lambda store: (store.stripes.update({2: ["x", "y", "z"]}), store.counted.update(stripes=6)),
        "version 2 added 1 stripe",
    ),
    (lambda store: store.counted.update(stripes=5), "counts 4 stripes"),
    (lambda store: setattr(store, "on_disks_bytes", 6 * STRIPE_BYTES - 1), "is on a disk"),
    (lambda store: store.spread.__setitem__(0, store.spread[1]), "too slow"),
    (spoil("kill", lambda _: lambda *_: ""), "three processes are gone"),
    (spoil("get", swap), "version 1 is the same"),
    (spoil("get", revive), "still dead"),
    (spoil("down", lambda _: lambda: ""), "no process is left"),
]


@pytest.mark.parametrize(("spoiled", "complaint"), SPOILED)
def test_a_step_that_does_not_hold_ends_the_demo(
    store: Store, spoiled: Callable[[Store], object], complaint: str
) -> None:
    spoiled(store)
    with pytest.raises(StepFailed, match=complaint):
        play(store)


def test_a_dead_leader_that_still_leads_is_noticed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "leader", lambda: "meta-2")
    with pytest.raises(StepFailed, match="leads now"):
        play(store)


def test_a_missing_shard_is_put_again_before_anything_dies(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    first, put = ["slow"], store._put

    def put_slowly(*words: str) -> str:
        if first:
            first.clear()
            store.counted["missing"] = {"1": 1}
        return put(*words)

    spoil("put", lambda _: put_slowly)(store)
    file = store.folder / "one"
    file.write_text("one")
    version = story.put(Play(store, name=NAME), file)  # type: ignore[arg-type]
    assert (version.number, store.commands) == (2, ["put", "put"])
    assert "once more" in capsys.readouterr().out


def test_a_file_in_the_catalog_has_no_stripes_to_share(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.stripes = {1: [""], 2: [""]}
    store.spread = ["127.0.0.1:9101", "127.0.0.1:9111", "127.0.0.1:9121"]
    store.counted["stripes"] = 0
    play(store)
    assert "lies whole in the catalog" in capsys.readouterr().out
    assert store.commands.count("kill") == 3
