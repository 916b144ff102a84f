"""Metrics of one process: a prometheus-client registry, made in `__main__` and passed down.

Names begin with `oss_`, carry their unit, and counters end in `_total`. A role makes its own
instruments on `Metrics.registry`.
"""

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The registry of one process, with its CPU, memory and request times in it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        self._requests = Histogram(
            "oss_request_seconds",
            "Time from a request's headers to the end of its answer.",
            ("api", "method", "code"),
            registry=self.registry,
            buckets=SECONDS_BUCKETS,
        )
        # labels() costs more than observe(): remember what it gave.
        self._request_children: dict[tuple[str, str, int], Histogram] = {}

    def observe_request(self, api: str, method: str, code: int, seconds: float) -> None:
        """Count one answered request; `code` 499 means that the client left first."""
        key = (api, method, code)
        child = self._request_children.get(key)
        if child is None:
            child = self._request_children[key] = self._requests.labels(api, method, str(code))
        child.observe(seconds)

    def text(self) -> bytes:
        """All metrics in the Prometheus text format."""
        return generate_latest(self.registry)
