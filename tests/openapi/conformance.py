"""Whether an answer is one that the description names: path, method, status, headers, body.

The tests of the handlers, and those with real processes, hand every answer they get to
`Description.check`, so what those tests reach is described truly, or they fail.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema_rs

from frontend.description import description
from frontend.openapi.words import operations_of

_PIECE = re.compile(r"\{(\w+)\}")
# A name may hold slashes, all other pieces of a path may not.
_WITH_SLASHES = ("key", "name_or_handle", "name_or_hash", "file_name")


class Description:
    """The description as a frontend serves it, and what follows from it."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self._patterns = [(_pattern(path), path) for path in document["paths"]]
        # Paths without pieces win over those with, longer ones over shorter.
        self._patterns.sort(key=lambda each: (each[1].count("{"), -len(each[1])))

    def check(
        self, method: str, target: str, status: int, headers: Mapping[str, str], body: bytes
    ) -> None:
        """Raises AssertionError that says what the description does not know."""
        path = self.path_of(target)
        what = f"{method} {target.partition('?')[0]} ({path}) -> {status}"
        if path is None:
            assert status in (400, 404, 405), f"{what}: the path is not described"
            return
        operation = self.document["paths"][path].get(method.lower())
        if operation is None:
            assert status == 405, f"{what}: the method is not described"
            return
        answer = self._answer(operation, status)
        assert answer is not None, f"{what}: the status is not described: {body[:300]!r}"
        for name, header in answer.get("headers", {}).items():
            given = {each.lower() for each in headers}
            assert not header.get("required") or name.lower() in given, f"{what}: no {name}"
        if method != "HEAD":
            self._check_body(what, answer, headers.get("Content-Type", ""), body)

    def path_of(self, target: str) -> str | None:
        """The described path that a request's target falls under."""
        path = target.partition("?")[0]
        for pattern, name in self._patterns:
            if pattern.fullmatch(path):
                return name
        return None

    def answers(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every answer that is described, by where it stands."""
        for path, method, operation in operations_of(self.document["paths"]):
            for status in operation["responses"]:
                answer = self._answer(operation, int(status))
                assert answer is not None
                yield f"{method} {path} {status}", answer

    def errors_in(self, schema: Mapping[str, Any], value: object) -> list[str]:
        """What makes `value` invalid."""
        whole = {**schema, "components": self.document["components"]}
        validator = jsonschema_rs.Draft202012Validator(whole)
        return [f"{list(e.instance_path)}: {e.message}" for e in validator.iter_errors(value)]

    def _answer(self, operation: Mapping[str, Any], status: int) -> dict[str, Any] | None:
        answer = operation["responses"].get(str(status))
        if answer is None or "$ref" not in answer:
            return answer
        name = answer["$ref"].rpartition("/")[2]
        return dict(self.document["components"]["responses"][name])

    def _check_body(self, what: str, answer: Mapping[str, Any], kind: str, body: bytes) -> None:
        content = answer.get("content", {})
        if not content:
            assert not body, f"{what}: a body where none is described: {body[:200]!r}"
            return
        if "*/*" in content:
            return
        assert kind in content, f"{what}: {kind!r} is not one of {list(content)}"
        if kind == "application/json":
            found = self.errors_in(content[kind]["schema"], json.loads(body))
            assert not found, f"{what}: {found[:5]} in {body[:500]!r}"


def whole_description() -> Description:
    """What a frontend of this source serves."""
    return Description(description("test"))


def _pattern(path: str) -> re.Pattern[str]:
    pieces = _PIECE.split(path)
    literals, names = pieces[::2], pieces[1::2]
    found = re.escape(literals[0])
    for name, literal in zip(names, literals[1:], strict=True):
        found += (".+" if name in _WITH_SLASHES else "[^/]+") + re.escape(literal)
    # A slash at the end of a collection changes nothing.
    return re.compile(found.removesuffix("/") + "/?", re.DOTALL)
