"""One description of all paths: schemas by name, examples as JSON, the credentials."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from frontend.openapi.failures import failures
from frontend.openapi.words import Node, OneOf

OPENAPI: Final = "3.1.0"
_SAYS: Final = """\
A self-hosted object store. docs/native-api.md and docs/token-api.md say the same for people.

Every answer has an `X-Request-Id`, which is also in the logs. A method that a path does not
have is answered by 405 with `Allow`, a path that does not exist by 404.

Every frontend serves all of it. Blob daemons have one door of their own: the operations of
`/temp/` whose `servers` name one keep a body on that daemon until it is confirmed there."""
_TAGS: Final = {
    "objects": "Objects of a bucket, and their versions.",
    "uploads": "Uploads of several requests, and bodies that wait for a confirmation.",
    "listings": "What there is.",
    "buckets": "Buckets.",
    "shares": "Links that any browser opens.",
    "cluster": "Where things are, and how the cluster is.",
    "maintenance": "Bounded steps of work on request.",
    "credentials": "Access keys, tokens, and who used an administrative right.",
    "tokens": "The token API: contents by their SHA-256, for a web back end and its clients.",
    "process": "The process that answers; open to anybody.",
}
_SCHEMES: Final[dict[str, Node]] = {
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": "An access key and its secret, as `curl -u ACCESS:SECRET` sends them.",
    },
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "`Authorization: Bearer ACCESS:SECRET`.",
    },
}


def describe(
    version: str,
    *several: Mapping[str, Node],
    responses: Mapping[str, Node] = MappingProxyType({}),
    schemes: Mapping[str, Node] = MappingProxyType({}),
) -> Node:
    """The description of these paths, ready for JSON.

    `responses` are components beside those of `failures`; `schemes` are credentials beside
    access keys, which every operation takes unless it says otherwise. Raises ValueError for a
    path that is described twice.
    """
    paths: dict[str, Node] = {}
    for some in several:
        if twice := paths.keys() & some.keys():
            raise ValueError(f"described twice: {sorted(twice)}")
        paths.update(some)
    shared = {**failures(), **responses}
    named, schemas = _schemas({"paths": paths, "responses": shared})
    used = {tag for node in _nodes(paths) for tag in node.get("tags", ())}
    return {
        "openapi": OPENAPI,
        "info": {"title": "raftoss", "version": version, "description": _SAYS},
        "servers": [{"url": "/"}],
        "tags": [{"name": n, "description": says} for n, says in _TAGS.items() if n in used],
        "security": [{"basic": []}, {"bearer": []}],
        "paths": _plain(paths, named),
        "components": {
            "securitySchemes": {**_SCHEMES, **schemes},
            "responses": _plain(shared, named),
            "schemas": _plain(schemas, named),
        },
    }


def _nodes(value: object) -> Iterator[dict[str, Any]]:
    """Every object inside, outermost first."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _nodes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _nodes(inner)


def _schemas(tree: Node) -> tuple[dict[object, Node], dict[str, Node]]:
    """JSON Schema of each type that the tree names, and what they refer to."""
    named = [node["schema"] for node in _nodes(tree) if "schema" in node]
    kinds = [kind for schema in named for kind in _kinds(schema)]
    distinct = list(dict.fromkeys(kinds))
    written, components = msgspec.json.schema_components(
        distinct, ref_template="#/components/schemas/{name}"
    )
    return dict(zip(distinct, written, strict=True)), dict(components)


def _kinds(schema: object) -> tuple[object, ...]:
    if isinstance(schema, OneOf):
        return schema.kinds
    return () if isinstance(schema, dict) else (schema,)


def _plain(value: object, named: Mapping[object, Node]) -> Any:
    """The same as JSON would have it: types as schemas, examples without structs."""
    if isinstance(value, dict):
        return {
            name: _written(inner, named) if name == "schema" else _plain(inner, named)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_plain(inner, named) for inner in value]
    return msgspec.to_builtins(value)


def _written(schema: object, named: Mapping[object, Node]) -> Node:
    if isinstance(schema, dict):
        return schema
    several = [named[kind] for kind in _kinds(schema)]
    return {"oneOf": several} if isinstance(schema, OneOf) else several[0]
