"""How fast something that only grows has grown lately."""

from collections import deque

WINDOW_S = 60.0


class Rate:
    """Of a total that is looked at now and then."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, total: int, *, now_s: float) -> None:
        """The total now. A smaller one than before begins anew."""
        if self._seen and total < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((now_s, total))
        while len(self._seen) > 2 and self._seen[1][0] <= now_s - WINDOW_S:
            self._seen.popleft()

    @property
    def per_s(self) -> float:
        """On average of the last minute, or of the time since the first look."""
        if len(self._seen) < 2:
            return 0.0
        (began_s, before), (now_s, total) = self._seen[0], self._seen[-1]
        return (total - before) / (now_s - began_s) if now_s > began_s else 0.0
