"""What an installation brings is what the code imports; what else is run, the README names."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]


def declared() -> tuple[set[str], set[str]]:
    """Our own packages, and the distributions we require."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.split(".")[0] for name in project["tool"]["setuptools"]["packages"]}
    words = project["project"]["dependencies"]
    return packages, {word.split(";")[0].split("=")[0].split(">")[0].strip() for word in words}


def imported(packages: set[str]) -> set[str]:
    """Top-level names of every import, those within functions too."""
    found = set()
    for package in packages:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    found |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    found.add(node.module.split(".")[0])
    return found


def test_every_import_is_of_a_distribution_that_is_required() -> None:
    packages, required = declared()
    foreign = imported(packages) - packages - set(sys.stdlib_module_names)
    assert len(foreign) > 10
    origins = packages_distributions()
    names = {name: {o.lower().replace("_", "-") for o in origins[name]} for name in foreign}
    missing = {name for name, found in names.items() if not required & found}
    assert missing == set()


OF_ANY_LINUX = {"sh", "mount", "umount"}
STARTED = re.compile(r"""(?:which\(|run\(\s*\[|Popen\(\s*\[)"([a-z][a-z0-9.-]*)\"""")


def test_the_readme_names_every_program_that_tests_start() -> None:
    sources = (path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    programs = {name for source in sources for name in STARTED.findall(source)}
    assert {"bash", "curl"} <= programs
    text = (ROOT / "README.md").read_text()
    assert {name for name in programs - OF_ANY_LINUX if f"`{name}`" not in text} == set()
