"""What of a file and of a folder survives a power cut; `tests.fakes.disk` builds on it."""

from dataclasses import dataclass, field
from random import Random
from typing import Union

SECTOR_BYTES = 512


@dataclass(slots=True)
class Change:
    """An unsynced write (`data`) or truncation (`data` None) of a file."""

    offset: int
    data: bytes | None

    def apply(self, content: bytearray) -> None:
        if self.data is None:
            _resize(content, self.offset)
            return
        if len(content) < self.offset:
            _resize(content, self.offset)
        content[self.offset : self.offset + len(self.data)] = self.data


@dataclass(slots=True)
class File:
    content: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    unsynced: list[Change] = field(default_factory=list)

    def change(self, change: Change) -> None:
        change.apply(self.content)
        self.unsynced.append(change)

    def sync(self) -> None:
        for change in self.unsynced:
            change.apply(self.durable)
        self.unsynced.clear()

    def survivor(self, random: Random) -> "File":
        content = bytearray(self.durable)
        for change in self.unsynced:
            for part in _survivors(change, random):
                part.apply(content)
        return File(content, bytearray(content))


@dataclass(slots=True)
class Folder:
    names: dict[str, "Node"] = field(default_factory=dict)
    durable: dict[str, "Node"] = field(default_factory=dict)
    # (name, what it names from now on; None: nothing)
    unsynced: list[tuple[str, Union["Node", None]]] = field(default_factory=list)

    def bind(self, name: str, node: Union["Node", None]) -> None:
        _bind(self.names, name, node)
        self.unsynced.append((name, node))

    def sync(self) -> None:
        self.durable = dict(self.names)
        self.unsynced.clear()

    def survivor(self, random: Random, made: dict[int, "Node"]) -> "Folder":
        names = dict(self.durable)
        in_order = random.random() < 0.5
        kept = random.randint(0, len(self.unsynced))
        for at, (name, node) in enumerate(self.unsynced):
            if at < kept if in_order else random.random() < 0.5:
                _bind(names, name, node)
        after = {name: _survive(node, random, made) for name, node in names.items()}
        return Folder(after, dict(after))


Node = File | Folder


def _bind(names: dict[str, Node], name: str, node: Node | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def _survive(node: Node, random: Random, made: dict[int, Node]) -> Node:
    # `made`: a file with two names, in the middle of a rename, stays one file.
    if id(node) not in made:
        made[id(node)] = (
            node.survivor(random, made) if isinstance(node, Folder) else node.survivor(random)
        )
    return made[id(node)]


def _resize(content: bytearray, size_bytes: int) -> None:
    if size_bytes < len(content):
        del content[size_bytes:]
    else:
        content.extend(bytes(size_bytes - len(content)))


def _survivors(change: Change, random: Random) -> list[Change]:
    """What a power cut leaves of one unsynced change."""
    data = change.data
    fate = random.choice(("all", "nothing", "prefix", "sectors", "zeros"))
    if fate == "nothing":
        return []
    if data is None or fate == "all":
        return [change]
    if fate == "prefix":
        return [Change(change.offset, data[: random.randint(0, len(data))])]
    if fate == "zeros":
        # The new length reached the disk, the data did not; old bytes are not overwritten.
        return [Change(change.offset + len(data), b"")]
    starts = range(0, len(data), SECTOR_BYTES)
    return [
        Change(change.offset + at, data[at : at + SECTOR_BYTES])
        for at in starts
        if random.random() < 0.5
    ]
