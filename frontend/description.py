"""What `/openapi.json` says of everything that is routed here.

Loaded when somebody asks for it: a frontend starts without.
"""

import msgspec

from frontend.openapi.document import describe
from frontend.openapi.process import process_paths
from frontend.openapi.words import Node
from frontend.rest.described.paths import native_paths
from frontend.tokens.described import SCHEMES, token_paths, token_responses


def description(version: str) -> Node:
    """The description, ready for JSON."""
    return describe(
        version,
        native_paths(),
        token_paths(),
        process_paths(),
        responses=token_responses(),
        schemes=SCHEMES,
    )


def encoded(version: str) -> bytes:
    """The description as JSON."""
    return msgspec.json.encode(description(version))
