"""Health and metrics of a process: four paths without signature, the same on every role.

`/livez` (and `/healthz`, its older name): the process answers; it does not depend on any
peer, so that a lost quorum restarts nothing. `/readyz`: it can serve now. `?verbose`: each
check with its outcome. `/metrics`: Prometheus text.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ossd.http import Handler
from ossd.metrics import CONTENT_TYPE

Check = Callable[[], str | None]
"""None: fine. Else why not, in a few words for a person."""

RETRY_AFTER_S = 1


def health_routes(checks: Mapping[str, Check]) -> list[Any]:
    """Routes for `serve`; `checks` are what must hold to serve, by name."""
    return [
        (r"/livez", Live),
        (r"/healthz", Live),
        (r"/readyz", Ready, {"checks": checks}),
        (r"/metrics", MetricsPage),
    ]


class Live(Handler):
    """The process answers."""

    api = "health"

    def get(self) -> None:
        """Always 200."""
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.write("ok\n")


class Ready(Handler):
    """All checks pass and no stop is under way."""

    api = "health"

    def initialize(self, checks: Mapping[str, Check]) -> None:
        """`checks` by name."""
        self._checks = checks

    def get(self) -> None:
        """200 or 503; the reasons with `?verbose`."""
        outcomes = {name: check() for name, check in self._checks.items()}
        if self.service.draining:
            outcomes["running"] = "stopping"
        ready = all(reason is None for reason in outcomes.values())
        if not ready:
            self.set_status(503)
            self.set_header("Retry-After", RETRY_AFTER_S)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        if self.get_query_argument("verbose", None) is not None or not ready:
            self.write("".join(map(_line, outcomes.items())))
        self.write("ready\n" if ready else "not ready\n")


class MetricsPage(Handler):
    """What Prometheus scrapes."""

    api = "health"

    def get(self) -> None:
        """All metrics of this process."""
        self.set_header("Content-Type", CONTENT_TYPE)
        self.write(self.server.metrics.text())


def _line(outcome: tuple[str, str | None]) -> str:
    name, reason = outcome
    return f"[ok] {name}\n" if reason is None else f"[failed] {name}: {reason}\n"
