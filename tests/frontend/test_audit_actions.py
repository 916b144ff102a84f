"""The page of the native API lists exactly the actions that the code writes into the audit."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
ACTION_AT = {"administer": 0, "audit_note": 2}
"""Function -> which of its arguments is the action."""
PASSES_ON = ("frontend/rest/handler.py", "frontend/serving/auditing.py")
"""Where an action is the argument of whoever calls."""
PAGE = ROOT / "docs" / "native-api.md"


def notes_in(path: Path) -> Iterator[ast.Call]:
    """Every call that makes a note for the audit."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ACTION_AT and str(path.relative_to(ROOT)) not in PASSES_ON:
                yield node


def actions_of(call: ast.Call) -> set[str]:
    """The actions it may name; the test can only follow literals and choices between them."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    todo, found = [call.args[ACTION_AT[name]]], set()
    while todo:
        action = todo.pop()
        if isinstance(action, ast.IfExp):
            todo += [action.body, action.orelse]
        else:
            assert isinstance(action, ast.Constant), ast.unparse(call)
            found.add(str(action.value))
    return found


def described() -> set[str]:
    """The actions in the table of the section "Audit"."""
    section = PAGE.read_text().partition("\n## Audit\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[2] for line in section.splitlines() if line.startswith("| ")]
    return {action for row in rows[1:] for action in re.findall(r"`([a-z.-]+)`", row)}


def test_the_page_lists_every_action_and_no_other() -> None:
    paths = [
        path for room in ("frontend", "blobd", "raftmeta") for path in (ROOT / room).rglob("*.py")
    ]
    used = {action for path in paths for call in notes_in(path) for action in actions_of(call)}
    assert {"key.create", "system-token.set", "scan"} <= used
    assert described() == used
