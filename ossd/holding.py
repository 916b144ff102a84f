"""How long the bytes of one body stay in memory: what its client is like, in one figure."""

REMEMBERED_BYTES = 16 * 1024 * 1024
"""After so many the past counts half: a client may change."""


class Holding:
    """Byte seconds held, by bytes taken: the mean time that a byte stays (J. Little, 1961)."""

    def __init__(self) -> None:
        self._byte_seconds = 0.0
        self._taken_bytes = 0
        self._at_s = 0.0

    def pass_time(self, held_bytes: int, now_s: float) -> None:
        """So many were held from the last call until now."""
        self._byte_seconds += held_bytes * (now_s - self._at_s)
        self._at_s = now_s

    def skip_time(self, now_s: float) -> None:
        """What passed since the last call was not the client's doing."""
        self._at_s = now_s

    def take(self, size_bytes: int) -> None:
        """So many more are held from now on."""
        if self._taken_bytes > REMEMBERED_BYTES:
            self._taken_bytes //= 2
            self._byte_seconds /= 2
        self._taken_bytes += size_bytes

    @property
    def mean_s(self) -> float:
        """Seconds that a byte stayed; 0 of a body that has taken none."""
        return self._byte_seconds / self._taken_bytes if self._taken_bytes else 0.0
