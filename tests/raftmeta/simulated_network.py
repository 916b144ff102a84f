"""A network for simulated members: delays, loses, doubles and reorders, in virtual time."""

import heapq
import itertools
import random
from collections.abc import Callable
from typing import Any

import msgspec

from raftmeta.messages import AnyMessage


class Network:
    """Carries encoded messages with delay; loses, doubles and reorders them if told to."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.now_s = 1000.0
        self.loss = 0.0
        self.doubling = 0.0
        self.delay_max_s = 0.01
        self.cut: set[tuple[str, str]] = set()  # (from, to)
        self._order = itertools.count()
        self._queue: list[tuple[float, int, str, str, bytes]] = []
        self.receivers: dict[str, Callable[[str, AnyMessage], None]] = {}
        self._decoder = msgspec.msgpack.Decoder(AnyMessage)

    def monotonic_s(self) -> float:
        return self.now_s

    def send(self, source: str, target: str, message: AnyMessage) -> None:
        copies = 1 + (self.rng.random() < self.doubling)
        for _ in range(copies):
            if (source, target) in self.cut or self.rng.random() < self.loss:
                continue
            at_s = self.now_s + self.rng.random() * self.delay_max_s
            data = msgspec.msgpack.encode(message)
            heapq.heappush(self._queue, (at_s, next(self._order), source, target, data))

    def due(self) -> list[tuple[str, str, AnyMessage]]:
        found = []
        while self._queue and self._queue[0][0] <= self.now_s:
            _, _, source, target, data = heapq.heappop(self._queue)
            if (source, target) not in self.cut:
                found.append((source, target, self._decoder.decode(data)))
        return found

    def forget(self, source: str, target: str) -> None:
        """What is on the way from source to target is lost."""
        self._queue = [item for item in self._queue if (item[2], item[3]) != (source, target)]
        heapq.heapify(self._queue)


class SimulatedLinks:
    """Implements raftmeta.transport.Links."""

    def __init__(self, member: str, everybody: tuple[str, ...], network: Network) -> None:
        self._member = member
        self._others = tuple(each for each in everybody if each != member)
        self._network = network

    def start(
        self,
        poller: Any,
        *,
        on_message: Callable[[str, AnyMessage], None],
        on_change: Callable[[str, bool], None],
    ) -> None:
        self._network.receivers[self._member] = on_message
        for other in self._others:
            on_change(other, True)

    def send(self, member: str, message: AnyMessage) -> bool:
        self._network.send(self._member, member, message)
        return True

    def has_room(self, member: str) -> bool:
        return True

    def drop(self, member: str) -> None:
        self._network.forget(member, self._member)

    def step(self) -> None:
        """Nothing to connect."""

    def close(self) -> None:
        self._network.receivers.pop(self._member, None)
