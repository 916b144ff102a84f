"""The description says what there is: every route and method, every error, good examples."""

import re
from typing import Any, cast

import pytest
import schemathesis

from blobd.temp.handlers import Door, temp_routes
from frontend.openapi.failures import INTERNAL, codes_of
from frontend.openapi.serving import openapi_routes
from frontend.openapi.words import METHODS, operations_of
from frontend.rest.routes import native_routes
from frontend.serving.surface import Surface
from frontend.tokens.routes import token_routes
from osscore.errors import leaves
from ossd.health import health_routes
from ossd.http import Handler
from tests.openapi.conformance import whole_description

DESCRIPTION = whole_description()
PATHS = DESCRIPTION.document["paths"]


def all_routes() -> list[Any]:
    """What the composition root of a frontend serves."""
    surface = cast(Surface, None)  # no handler is made
    return [
        *health_routes({}),
        *openapi_routes(bytes),
        *native_routes(surface),
        *token_routes(surface),
    ]


def concrete(path: str) -> str:
    """A target that falls under a described path."""
    return re.sub(r"\{\w+\}", "some-name", path)


def route_of(path: str) -> tuple[str, type[Handler]]:
    """The first route that takes it, as Tornado decides."""
    for pattern, kind, *_ in all_routes():
        if re.fullmatch(pattern, concrete(path)):
            return pattern, kind
    raise AssertionError(f"{path} is described, and no route takes it")


def methods_of(kind: type[Handler]) -> set[str]:
    """The methods a handler has verbs for."""
    return {method.lower() for method in kind.__new__(kind).allowed_methods()}


@pytest.mark.parametrize("path", PATHS)
def test_a_path_has_the_methods_that_are_described(path: str) -> None:
    _, kind = route_of(path)
    assert {method for method in METHODS if method in PATHS[path]} == methods_of(kind)


def daemon_servers() -> list[tuple[str, str, dict[str, Any]]]:
    """(path, method, server) of every operation that a blob daemon answers, too."""
    return [
        (path, method, server)
        for path, method, operation in operations_of(PATHS)
        for server in operation.get("servers", [])[1:]
    ]


def test_what_a_blob_daemon_answers_is_described_as_such() -> None:
    (pattern, kind, *_), *_ = temp_routes(cast(Door, None), None)
    (path,) = {path for path, _, _ in daemon_servers()}
    assert re.fullmatch(pattern, concrete(path))
    assert {method for _, method, _ in daemon_servers()} == methods_of(kind)


def test_a_blob_daemon_can_be_addressed_with_what_is_said_of_it() -> None:
    for path, method, server in daemon_servers():
        # Generated clients and fuzzers take the first server of an operation.
        assert PATHS[path][method]["servers"][0]["url"] == "/"
        defaults = {name: each["default"] for name, each in server["variables"].items()}
        assert server["url"].format(**defaults) == "http://localhost:9201"


def test_every_route_is_described() -> None:
    described = {route_of(path)[0] for path in PATHS}
    resources = [pattern for pattern, kind, *_ in all_routes() if methods_of(kind)]
    assert [pattern for pattern in resources if pattern not in described] == []


def test_the_description_is_valid_openapi() -> None:
    assert schemathesis.openapi.from_dict(DESCRIPTION.document).validate() is None


def test_operations_have_names_of_their_own_and_a_summary() -> None:
    names = [operation["operationId"] for _, _, operation in operations_of(PATHS)]
    assert len(names) == len(set(names)) > 30
    assert all(operation["summary"] for _, _, operation in operations_of(PATHS))


def test_every_piece_of_a_path_is_described() -> None:
    for path, methods in PATHS.items():
        for _, _, operation in operations_of({path: methods}):
            given = [*methods.get("parameters", []), *operation.get("parameters", [])]
            pieces = [each["name"] for each in given if each["in"] == "path"]
            assert pieces == re.findall(r"\{(\w+)\}", path)


def test_every_example_is_one_of_its_schema() -> None:
    seen = 0
    for where, content, example in examples():
        assert DESCRIPTION.errors_in(content, example) == [], where
        seen += 1
    assert seen > 100


def test_every_answer_of_json_or_text_shows_an_example() -> None:
    for where, answer in DESCRIPTION.answers():
        for kind, content in answer.get("content", {}).items():
            assert kind in ("*/*", "application/zstd") or "example" in content, where


def examples() -> list[tuple[str, Any, Any]]:
    """Every example with its schema."""
    found = []
    for path, methods in PATHS.items():
        for parameter in methods.get("parameters", []):
            found.append((path, parameter["schema"], parameter.get("example", "some-name")))
    for path, method, operation in operations_of(PATHS):
        where = f"{method} {path}"
        for parameter in operation.get("parameters", []):
            if "example" in parameter:
                found.append((where, parameter["schema"], parameter["example"]))
        for content in operation.get("requestBody", {}).get("content", {}).values():
            if "example" in content:
                found.append((where, content["schema"], content["example"]))
    for where, answer in DESCRIPTION.answers():
        for content in answer.get("content", {}).values():
            if "example" in content:
                found.append((where, content["schema"], content["example"]))
    return found


def test_the_answers_of_failures_name_every_code_a_user_may_meet() -> None:
    named = {
        code
        for name in DESCRIPTION.document["components"]["responses"]
        if name.startswith("Failed")
        for code in codes_of(int(name.removeprefix("Failed")))
    }
    # 405 follows from the description itself.
    assert leaves().keys() - INTERNAL - named == {"MethodNotAllowed"}
    assert leaves().keys() >= INTERNAL
