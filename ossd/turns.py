"""Who waits for a share of something: first come, first served, but for those behind."""

from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import Generic, Protocol, TypeVar

BEHIND_SHARE = 0.25
"""Of what is granted while both kinds wait, to those behind."""


class Turn(Protocol):
    """One who waits."""

    @property
    def size_bytes(self) -> int:
        """What it waits for."""

    @property
    def is_behind(self) -> bool:
        """Others go before it. Stays as it is while it waits."""


T = TypeVar("T", bound=Turn)


class Turns(Generic[T]):
    """A queue in which who is behind is overtaken by who is not, and is owed a part of what
    those are granted: so it waits longer, and not for ever."""

    def __init__(self) -> None:
        self._ahead: deque[T] = deque()
        self._behind: deque[T] = deque()
        self._owed_bytes = 0.0

    def __len__(self) -> int:
        return len(self._ahead) + len(self._behind)

    def __iter__(self) -> Iterator[T]:
        return chain(self._ahead, self._behind)

    def join(self, turn: T) -> None:
        """Wait, as the last of one's kind."""
        (self._behind if turn.is_behind else self._ahead).append(turn)

    def first(self) -> T:
        """Whose turn it is; there must be one."""
        if self._behind and (not self._ahead or self._behind[0].size_bytes <= self._owed_bytes):
            return self._behind[0]
        return self._ahead[0]

    def serve(self) -> T:
        """Take away whose turn it is: it is granted what it waited for."""
        turn = self.first()
        if turn.is_behind:
            self._owed_bytes = max(0.0, self._owed_bytes - turn.size_bytes)
        else:
            self._owed_bytes += turn.size_bytes * BEHIND_SHARE / (1 - BEHIND_SHARE)
        self.leave(turn)
        return turn

    def leave(self, turn: T) -> None:
        """Wait no longer. Again: no change."""
        for turns in (self._ahead, self._behind):
            if turn in turns:
                turns.remove(turn)
        if not self._behind:
            self._owed_bytes = 0.0
