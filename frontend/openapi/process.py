"""The paths that every process of the store has, and the description's own."""

from typing import Any

from frontend.openapi.words import (
    JSON,
    NO_CREDENTIALS,
    Node,
    answers,
    answers_text,
    gives,
    in_query,
    operation,
    path,
)
from ossd.metrics import CONTENT_TYPE


def process_paths() -> dict[str, Node]:
    """Health, metrics and this description; none needs credentials."""
    return {
        "/livez": path(get=_live("isLive", "Whether the process answers")),
        "/healthz": path(get=_live("isHealthy", "The older name of /livez")),
        "/readyz": path(get=_ready()),
        "/metrics": path(get=_metrics()),
        "/openapi.json": path(get=_openapi()),
    }


def _live(name: str, summary: str) -> Node:
    return operation(
        name, "process", summary, {"200": answers_text("It does.", "ok\n")}, security=NO_CREDENTIALS
    )


def _ready() -> Node:
    retry = {"Retry-After": gives(int, "Seconds.")}
    return operation(
        "isReady",
        "process",
        "Whether the process can serve now",
        {
            "200": answers_text("It can.", "ready\n"),
            "503": answers_text(
                "It cannot, and why.", "[failed] metadata: no leader\nnot ready\n", retry
            ),
        },
        parameters=[in_query("verbose", str, "Each check with its outcome.", example="1")],
        security=NO_CREDENTIALS,
    )


def _metrics() -> Node:
    content = {CONTENT_TYPE: {"schema": str, "example": "oss_request_seconds_count 1.0\n"}}
    return operation(
        "readMetrics",
        "process",
        "Counters of this process for Prometheus",
        {"200": answers("Prometheus text.", content)},
        security=NO_CREDENTIALS,
    )


def _openapi() -> Node:
    content = {JSON: {"schema": dict[str, Any], "example": {"openapi": "3.1.0"}}}
    return operation(
        "readDescription",
        "process",
        "This description",
        {"200": answers("OpenAPI 3.1 as JSON.", content)},
        security=NO_CREDENTIALS,
    )
