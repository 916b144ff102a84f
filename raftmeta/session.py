"""A client's session: which sequence numbers are given out and which are answered."""

import heapq


class Session:
    """Numbers commands 1.. and knows below which number all were answered (SAFETY rule 19).

    `number` is the session the catalog opened. `used_at_s` is the monotonic time of the
    last command, by which the client abandons a session before the catalog expires it.
    """

    def __init__(self, number: int, *, now_s: float) -> None:
        self.number = number
        self.used_at_s = now_s
        self._next_seq = 1
        self._open: list[int] = []
        self._answered: set[int] = set()

    def take_seq(self) -> int:
        """The next number; it stays open until `close_seq`."""
        seq = self._next_seq
        self._next_seq += 1
        heapq.heappush(self._open, seq)
        return seq

    def close_seq(self, seq: int) -> None:
        """Its result was received, or nobody wants it any more."""
        self._answered.add(seq)
        while self._open and self._open[0] in self._answered:
            self._answered.discard(heapq.heappop(self._open))

    @property
    def acked_below(self) -> int:
        """Every lower number is closed: the catalog may drop those results."""
        return self._open[0] if self._open else self._next_seq

    @property
    def open_count(self) -> int:
        """Numbers given out and not closed."""
        return len(self._open) - len(self._answered)
