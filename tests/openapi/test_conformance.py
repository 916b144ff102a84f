"""What holds the answers to the description notices what is not described."""

import json
from typing import Any

import pytest

from tests.openapi.conformance import whole_description

DESCRIPTION = whole_description()
JSON = {"Content-Type": "application/json"}
BUCKETS: dict[str, Any] = {"buckets": []}
UNKNOWN = {"error": {"code": "NoSuchKey", "message": "There is none.", "request_id": "1"}}


def check(method: str, target: str, status: int, value: Any, **headers: str) -> None:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    given = {name.replace("_", "-"): text for name, text in headers.items()}
    DESCRIPTION.check(method, target, status, {**JSON, **given}, body)


def test_what_is_described_passes() -> None:
    check("GET", "/buckets", 200, BUCKETS)
    check("GET", "/buckets/?after=x", 200, BUCKETS)
    check("HEAD", "/buckets", 200, b"")
    check("GET", "/objects/a/b%20c", 404, UNKNOWN, X_Request_Id="1")
    check("BREW", "/buckets", 405, b"")
    check("GET", "/nothing", 404, b"")


@pytest.mark.parametrize(
    ("method", "target", "status", "value"),
    [
        ("GET", "/nothing", 200, BUCKETS),
        ("POST", "/buckets", 200, BUCKETS),
        ("GET", "/buckets", 418, UNKNOWN),
        ("GET", "/buckets", 200, {"buckets": [], "more": 1}),
        ("GET", "/buckets", 200, {"buckets": None}),
        ("GET", "/buckets", 200, {}),
        ("GET", "/objects/a", 404, {"error": {"code": "NoSuchKey"}}),
        ("GET", "/objects/a", 404, UNKNOWN),  # without its X-Request-Id
        ("DELETE", "/buckets/some", 204, b"text"),
        ("PUT", "/objects/a", 200, BUCKETS),
    ],
)
def test_what_is_not_described_is_noticed(
    method: str, target: str, status: int, value: Any
) -> None:
    with pytest.raises(AssertionError):
        check(method, target, status, value)


def test_another_content_type_is_noticed() -> None:
    with pytest.raises(AssertionError):
        check("GET", "/buckets", 200, BUCKETS, Content_Type="text/html")


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/objects/a/b", "/objects/{key}"),
        ("/objects", "/objects"),
        ("/objects/", "/objects"),
        ("/buckets/x/objects/a/b", "/buckets/{bucket}/objects/{key}"),
        ("/buckets/x/versions", "/buckets/{bucket}/versions"),
        ("/versions", "/versions/"),
        ("/v1/maintenance/prune?keep=1", "/v1/maintenance/prune"),
        ("/v1/nothing", None),
    ],
)
def test_a_target_falls_under_the_most_exact_path(target: str, path: str | None) -> None:
    assert DESCRIPTION.path_of(target) == path
