"""The words a description is written in: functions that give the objects of OpenAPI 3.1.

A schema is a Python type (a msgspec struct, an annotated int, ...) until `document` turns it
into JSON Schema; an example of a struct is an instance of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Node = dict[str, Any]
"""An object of the description, or of JSON Schema."""

JSON: Final = "application/json"
BYTES: Final = "application/octet-stream"
TEXT: Final = "text/plain; charset=utf-8"
METHODS: Final = ("get", "head", "put", "post", "patch", "delete", "options")


@dataclass(frozen=True, slots=True)
class OneOf:
    """A schema that is one of several types; Python has no union of untagged structs."""

    kinds: tuple[object, ...]


def one_of(*kinds: object) -> OneOf:
    """Exactly one of these."""
    return OneOf(kinds)


NO_CREDENTIALS: Final[list[Node]] = []


def operation(
    name: str,
    tag: str,
    summary: str,
    answers: Mapping[str, Node],
    *,
    says: str = "",
    parameters: Sequence[Node] = (),
    body: Node | None = None,
    security: list[Node] | None = None,
) -> Node:
    """One method of one path. `security` None: as the whole description says."""
    found: Node = {"operationId": name, "tags": [tag], "summary": summary}
    if says:
        found["description"] = says
    if parameters:
        found["parameters"] = list(parameters)
    if body is not None:
        found["requestBody"] = body
    if security is not None:
        found["security"] = security
    return {**found, "responses": dict(answers)}


def path(*parameters: Node, **operations: Node | None) -> Node:
    """All methods of a path, and the parameters they share. HEAD answers as GET does, without
    a body, unless it is described by itself; None: there is none."""
    get = operations.get("get")
    if get is not None and "head" not in operations:
        operations["head"] = _head_of(get)
    shared: Node = {"parameters": list(parameters)} if parameters else {}
    return {**shared, **{name: operations[name] for name in METHODS if operations.get(name)}}


def _head_of(get: Node) -> Node:
    # A bodiless answer is spelled out: a reference would bring the body of the error along.
    answers = {status: _without_body(status, answer) for status, answer in get["responses"].items()}
    name = str(get["operationId"])
    summary = f"The headers of: {str(get['summary'])[0].lower()}{str(get['summary'])[1:]}"
    head_name = f"head{name[0].upper()}{name[1:]}"
    return {**get, "operationId": head_name, "summary": summary, "responses": answers}


def _without_body(status: str, answer: Node) -> Node:
    if "$ref" in answer:
        return {"$ref": f"#/components/responses/Bare{status}"}
    return {name: value for name, value in answer.items() if name != "content"}


# --- what a request carries ------------------------------------------------------------------


def in_path(name: str, schema: object, says: str, *, example: object = None) -> Node:
    """A piece of the path."""
    return _parameter("path", name, schema, says, example, required=True)


def in_query(
    name: str, schema: object, says: str, *, example: object = None, required: bool = False
) -> Node:
    """An argument behind the question mark."""
    return _parameter("query", name, schema, says, example, required=required)


def in_header(
    name: str, schema: object, says: str, *, example: object = None, required: bool = False
) -> Node:
    """A header of the request."""
    return _parameter("header", name, schema, says, example, required=required)


def _parameter(
    place: str, name: str, schema: object, says: str, example: object, *, required: bool
) -> Node:
    found: Node = {"name": name, "in": place, "description": says, "schema": schema}
    if required:
        found["required"] = True
    if example is not None:
        found["example"] = example
    return found


def sends_bytes(says: str) -> Node:
    """A request body of any bytes and any length, also none."""
    return {"description": says, "required": False, "content": {BYTES: {"schema": {}}}}


def sends_json(says: str, schema: object, example: object, *, required: bool = True) -> Node:
    """A request body of JSON."""
    content = {JSON: {"schema": schema, "example": example}}
    return {"description": says, "required": required, "content": content}


# --- what an answer carries -----------------------------------------------------------------


def answers_json(
    says: str, schema: object, example: object, headers: Mapping[str, Node] | None = None
) -> Node:
    """An answer of JSON."""
    return answers(says, {JSON: {"schema": schema, "example": example}}, headers)


def answers_text(says: str, example: str, headers: Mapping[str, Node] | None = None) -> Node:
    """An answer of plain text."""
    return answers(says, {TEXT: {"schema": str, "example": example}}, headers)


def answers_nothing(says: str, headers: Mapping[str, Node] | None = None) -> Node:
    """An answer without a body."""
    return answers(says, {}, headers)


def answers(
    says: str, content: Mapping[str, Node], headers: Mapping[str, Node] | None = None
) -> Node:
    """An answer by its content types."""
    found: Node = {"description": says}
    if headers:
        found["headers"] = dict(headers)
    if content:
        found["content"] = dict(content)
    return found


def gives(schema: object, says: str, *, always: bool = True) -> Node:
    """A header of an answer."""
    return {"description": says, "schema": schema, "required": always}


def leading_to(answer: Node, name: str, **parameters: str) -> Node:
    """The same answer, which tells how to ask for operation `name` next."""
    link = {"operationId": name, "parameters": parameters}
    return {**answer, "links": {**answer.get("links", {}), name: link}}


def fails(*statuses: int) -> dict[str, Node]:
    """The answers of a request that failed, by the names that `failures` gives them."""
    return {str(status): {"$ref": f"#/components/responses/Failed{status}"} for status in statuses}


def all_answers(*several: Mapping[str, Node]) -> dict[str, Node]:
    """Answers in order of their status."""
    joined = {status: answer for some in several for status, answer in some.items()}
    return dict(sorted(joined.items()))


def operations_of(paths: Mapping[str, Node]) -> Iterable[tuple[str, str, Node]]:
    """Every (path, method, operation)."""
    for name, methods in paths.items():
        for method in METHODS:
            if method in methods:
                yield name, method, methods[method]


def preflight(name: str, tag: str) -> Node:
    """OPTIONS, as a browser asks before it lets a page of another site go on."""
    headers = {
        "Allow": gives(str, "Every method of this resource."),
        "Access-Control-Allow-Methods": gives(str, "What a page may send.", always=False),
        "Access-Control-Allow-Headers": gives(str, "With these headers.", always=False),
        "Access-Control-Max-Age": gives(int, "Seconds this holds.", always=False),
    }
    return operation(
        name,
        tag,
        "Ask whether a page of another site may",
        {"204": answers_nothing("Named are the methods it may.", headers)},
        security=NO_CREDENTIALS,
    )
