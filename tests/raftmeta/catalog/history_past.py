"""What every key was after every change, kept plainly: the model that time travel is held to."""

from dataclasses import dataclass, field

from hypothesis import strategies as st

from raftmeta.commands import DeleteObject, DeleteVersion, PruneVersions, Refused, Undelete
from raftmeta.entries import AnyCommand
from raftmeta.lifecycle import ExpireVersions, SetLifecycle
from tests.raftmeta.catalog.harness import Driver

KEYS = ("a", "b/", "b/x", "b/y", "c")
Op = tuple[str, str, int]

ops = st.tuples(
    st.sampled_from(["put", "put", "put", "delete", "undelete", "remove", "prune", "expire"]),
    st.sampled_from(KEYS),
    st.integers(0, 3),
)
histories = st.lists(st.lists(ops, min_size=1, max_size=3), min_size=1, max_size=14)
"""Batches of changes: those of one batch happen in the same millisecond."""


@dataclass
class Model:
    """Each key as a stack of (number, content); content None is a delete marker."""

    stacks: dict[str, list[tuple[int, bytes | None]]] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    past: list[tuple[int, dict[str, tuple[int, bytes]]]] = field(default_factory=list)
    """(time, objects that were there from then on, by key), by time."""

    def play(self, driver: Driver, batch: list[Op]) -> None:
        """The same changes here and there, in one batch; then what goes by time, where that is
        among them."""
        driver.now_ms += 10
        entries = [driver.next(self._change(op, driver)) for op in batch if op[0] != "expire"]
        results = driver.apply(*entries)
        assert not any(isinstance(result, Refused) for result in results), results
        self.past.append((driver.catalog.head.catalog_time_ms, self._objects()))
        if any(what == "expire" for what, _, _ in batch):
            self._expire(driver)

    def at(self, at_ms: int) -> dict[str, tuple[int, bytes]]:
        """The objects of that time."""
        found = [objects for since_ms, objects in self.past if since_ms <= at_ms]
        return found[-1] if found else {}

    def holds(self, key: str, number: int) -> bool:
        """Whether that version is still there."""
        return any(number == each for each, _ in self.stacks.get(key, []))

    def moments(self) -> list[int]:
        """Each change, just before it, and long before and after all."""
        times = [at_ms for at_ms, _ in self.past]
        return sorted({times[0] - 1000, *times, *(at_ms - 1 for at_ms in times), times[-1] + 1000})

    def _objects(self) -> dict[str, tuple[int, bytes]]:
        tops = ((key, stack[-1]) for key, stack in self.stacks.items() if stack)
        return {key: (number, body) for key, (number, body) in tops if body is not None}

    def _expire(self, driver: Driver) -> None:
        """All that is not the newest goes, then markers with nothing behind them."""
        driver.run(SetLifecycle(bucket="bucket", expire_noncurrent_after_ms=1))
        driver.run(ExpireVersions(bucket="bucket"))
        for key, stack in self.stacks.items():
            self.stacks[key] = [each for each in stack[-1:] if each[1] is not None]
        self.past.append((driver.catalog.head.catalog_time_ms, self._objects()))

    def _change(self, op: Op, driver: Driver) -> AnyCommand:
        """The command, as far as it makes sense for this key, else a put."""
        what, key, which = op
        stack = self.stacks.setdefault(key, [])
        real = [number for number, body in stack if body is not None]
        if what == "delete" and stack:
            self._push(key, None)
            return DeleteObject(bucket="bucket", key=key)
        if what == "undelete" and real:
            while stack[-1][1] is None:
                stack.pop()
            return Undelete(bucket="bucket", key=key)
        if what == "remove" and stack:
            number, _ = stack.pop(which % len(stack))
            return DeleteVersion(bucket="bucket", key=key, number=number)
        if what == "prune" and real:
            keep = which + 1
            if len(real) > keep:
                self.stacks[key] = [each for each in stack if each[0] >= real[-keep]]
            return PruneVersions(bucket="bucket", key=key, keep=keep)
        return driver.put_command(key, self._push(key, b"%d" % which))

    def _push(self, key: str, body: bytes | None) -> bytes:
        self.numbers[key] = self.numbers.get(key, 0) + 1
        self.stacks[key].append((self.numbers[key], body))
        return body or b""
