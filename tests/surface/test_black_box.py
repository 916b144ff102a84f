"""These tests know nothing but what the store promises."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRODUCT = {"osscore", "ossd", "raftmeta", "blobd", "frontend", "cli"}


def imported(path: Path) -> set[str]:
    """Modules one file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def reached(path: Path, seen: set[Path]) -> set[str]:
    """Modules a file imports, through other modules of the tests as well."""
    names = imported(path)
    for name in tuple(names):
        module = ROOT / (name.replace(".", "/") + ".py")
        if name.startswith("tests.") and module.exists() and module not in seen:
            seen.add(module)
            names |= reached(module, seen)
    return names


@pytest.mark.parametrize("path", sorted(Path(__file__).parent.rglob("*.py")), ids=lambda p: p.stem)
def test_nothing_of_the_product_is_imported(path: Path) -> None:
    names = reached(path, set())
    assert {name for name in names if name.partition(".")[0] in PRODUCT} == set()
    assert names or path.name == "__init__.py"
