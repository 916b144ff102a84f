"""`ast.parse` without the garbage collector."""

import ast
import functools
import gc
from typing import Any


def leave_undisturbed() -> None:
    """Let nothing be collected while a syntax tree is built.

    What is collected may report itself (a task whose exception nobody took, say), and the
    traceback of a report is formatted with a syntax tree of its own. CPython 3.11 counts the
    depth of both together (gh-106905): the outer one ends in a SystemError. In pytest that is
    a failure that says nothing, or the end of a worker.
    """
    if not hasattr(ast.parse, "__wrapped__"):
        ast.parse = _undisturbed(ast.parse)


def _undisturbed(parse: Any) -> Any:
    @functools.wraps(parse)
    def parsed(*args: Any, **kwargs: Any) -> Any:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            return parse(*args, **kwargs)
        finally:
            if was_enabled:
                gc.enable()

    return parsed
