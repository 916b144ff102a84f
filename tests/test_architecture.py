"""The floors and the seams, as a test: who may import whom, who may touch the world.

The floors are those of docs/ARCHITECTURE.md. Every rule collects all its violations, so one
run shows everything there is to mend.
"""

import ast
import graphlib
import tomllib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("osscore", "ossd", "raftmeta", "blobd", "frontend", "cli")
GROUND = ("osscore", "ossd")
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70

# Anchors: a module and all below it stand on this floor; the longest prefix wins. A module
# without an anchor stands as high as the highest module of its own role that it imports, so
# a part split off a store may serve the store, but not smuggle a service into it.
FLOORS = {
    "osscore": 0,
    "ossd": 1,
    "raftmeta.commands": 1,
    "raftmeta.entries": 1,
    "raftmeta.questions": 1,
    "raftmeta.queries": 1,
    "raftmeta.credentials": 1,
    "raftmeta.members": 1,
    "raftmeta.moving": 1,
    "raftmeta.scanning": 1,
    "raftmeta.timetravel": 1,
    "raftmeta.upkeep": 1,
    "raftmeta.healing": 1,
    "raftmeta.lifecycle": 1,
    "raftmeta.expiring": 1,
    "raftmeta.generations": 1,
    "raftmeta.rejoining": 1,
    "raftmeta.archived": 1,
    "raftmeta.journal": 2,
    "raftmeta.transport": 2,
    "raftmeta.replica": 2,
    "raftmeta.catalog": 2,
    "blobd.volume": 2,
    "blobd.shardstore": 2,
    "raftmeta.wire": 3,
    "raftmeta.client": 3,
    "raftmeta.access": 3,
    "raftmeta.handlers": 3,
    "blobd.wire": 3,
    "blobd.client": 3,
    "blobd.handlers": 3,
    "raftmeta.stewards": 4,
    "blobd.census": 4,
    "blobd.scrub": 4,
    "blobd.scrubstate": 2,
    "blobd.volumerecords": 2,
    "blobd.upkeep": 4,
    "blobd.repair": 4,
    "blobd.temp": 4,
    "blobd.archive": 4,
    "blobd.collect": 4,
    "blobd.membership": 4,
    "blobd.rejoin": 4,
    "frontend.flows": 4,
    "frontend.cluster": 4,
    "frontend.serving": 4,
    "frontend.openapi": 4,
    "frontend.rest": 5,
    "frontend.s3": 5,
    "frontend.tokens": 5,
    "frontend.console": 5,
    "cli": 6,
}
STORES, CLIENTS, ROOTS = 2, 3, 7
DIALECTS = tuple(prefix for prefix, floor in FLOORS.items() if floor == 5)

# What a role shows to others, and who may look.
CLIENT_SIDE = (
    "client", "access", "wire", "commands", "credentials", "healing", "moving", "queries",
    "scanning",
    "timetravel",
    "lifecycle",
    "reencoding", "targets",
    "upkeep", "generations", "rejoining", "backup", "members",
    "member_client", "archive", "archived",
)  # fmt: skip
# `ossctl meta` looks through backups and restores them where no frontend can answer.
CALLS = {
    "frontend": ("raftmeta", "blobd"),
    "blobd": ("raftmeta",),
    "raftmeta": (),
    "cli": ("raftmeta",),
}

# Structs that travel: they know the words of the store and each other, nothing that acts.
VOCABULARY = (
    "raftmeta.commands",
    "raftmeta.queries",
    "raftmeta.credentials",
    "raftmeta.members",
    "raftmeta.moving",
    "raftmeta.reencoding",
    "raftmeta.scanning",
    "raftmeta.timetravel",
    "raftmeta.upkeep",
    "raftmeta.healing",
    "raftmeta.lifecycle",
    "raftmeta.expiring",
    "raftmeta.generations",
    "raftmeta.rejoining",
    "raftmeta.archived",
    "raftmeta.entries",
    "raftmeta.questions",
    "raftmeta.wire",
    "blobd.wire",
)

# On one floor, yet neither may reach the other: the catalog applies commands and knows no
# Raft; Raft carries bytes and knows no catalog.
STRANGERS = [
    (("raftmeta.catalog",), ("raftmeta.journal", "raftmeta.transport", "raftmeta.replica")),
    (("raftmeta.journal", "raftmeta.transport", "raftmeta.replica"), ("raftmeta.catalog",)),
]

# osscore computes; it never waits, reads a clock, rolls dice or touches the world.
CORE_BANNED = {
    "aiohttp", "asyncio", "io", "logging", "os", "pathlib", "random", "secrets", "selectors",
    "shutil", "socket", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "time",
    "tornado", "uuid",
}  # fmt: skip

# The seams: an outside module and the only modules of ours that may import it. `cli` is a
# person's tool with no simulated twin; a role's `__main__` is its composition root.
DISK_SIDE = ("ossd.disk", "cli")
# The transport class of PySyncObj and the TCP links behind it; a simulation binds another.
RAFT_LINKS = ("raftmeta.transport", "raftmeta.tcp_link", "raftmeta.tcp_links")
SEAMS = {
    "time": ("ossd.clock", "cli"),
    # The replica seeds a generator for election jitter from the randomness it was given.
    "random": ("ossd.clock", "raftmeta.replica"),
    "secrets": ("ossd.clock", "cli"),
    "uuid": (),
    "os": ("ossd.clock", "ossd.config", "ossd.disk", "ossd.run", "cli"),
    "io": DISK_SIDE,
    "fcntl": DISK_SIDE,
    "glob": DISK_SIDE,
    "mmap": DISK_SIDE,
    "shutil": DISK_SIDE,
    "tempfile": DISK_SIDE,
    "sqlite3": ("raftmeta.catalog", "blobd.index"),
    "sqlite_utils": ("raftmeta.catalog", "blobd.index", "cli"),
    "socket": ("ossd.http", "ossd.rpc", "ossd.server", "cli", *RAFT_LINKS),
    "select": (),
    "selectors": (),
    "socketserver": (),
    "http.client": ("cli",),
    "http.server": (),
    "urllib.request": ("cli",),
    "requests": (),
    "httpx": (),
    "aiohttp": ("ossd.exchange", "cli"),
    "tornado": ("ossd", "raftmeta.handlers", "blobd.handlers", *DIALECTS),
    "pysyncobj": ("raftmeta.pysync", "raftmeta.replica", *RAFT_LINKS),
    "subprocess": ("cli",),
    "multiprocessing": (),
    # Pickles run code; SAFETY wants our data as structs.
    "pickle": ("raftmeta.pysync", "raftmeta.transport"),
    "marshal": (),
    "shelve": (),
    # pyfinite's dependency brings an abandoned module of this name; msgspec encodes ours.
    "msgpack": (),
}
COMPOSITION_ROOT_MAY = {"os", "sqlite3", "tornado"}

# Ways to the world that need no import. Methods of a path, because `Path` itself is a name.
FILE_CALLS = {
    "read_text", "read_bytes", "write_text", "write_bytes", "touch", "rmdir", "iterdir",
    "rglob", "mkdir", "is_file", "is_dir", "hardlink_to", "symlink_to",
}  # fmt: skip
# `read_bytes` of a Tornado stream is no file.
FILES_ALLOWED = ("ossd.disk", "ossd.config", "ossd.server", "cli")
CLOCK_ALLOWED = ("ossd.clock", "cli")

# Each costs an idle daemon 10 to 20 MB: imported by the function that needs it.
HEAVY = {"numpy", "pyeclib", "sqlite_utils"}
EMPTY_NAMES = {"util", "utils", "helper", "helpers", "manager", "common", "misc"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {
    module_name(path): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(SOURCES[module].read_text())


def named_by(node: ast.AST) -> set[str]:
    """What one import statement imports; a name inside a module gives the module."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module is not None:
        children = [f"{node.module}.{alias.name}" for alias in node.names]
        outside = node.module.split(".")[0] not in PACKAGES
        # `from urllib import request` names urllib.request; harmless for plain names.
        return {c if c in SOURCES or (outside and c in SEAMS) else node.module for c in children}
    return set()


@cache
def imports_of(module: str) -> frozenset[str]:
    return frozenset(name for node in ast.walk(tree_of(module)) for name in named_by(node))


def ours(module: str) -> set[str]:
    return {name for name in imports_of(module) if name.split(".")[0] in PACKAGES}


def within(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(module == prefix or module.startswith(prefix + ".") for prefix in prefixes)


def role_of(module: str) -> str:
    return module.split(".")[0]


def is_root(module: str) -> bool:
    return module.endswith(".__main__")


def anchor(module: str) -> int | None:
    if is_root(module):
        return ROOTS
    prefixes = [prefix for prefix in FLOORS if within(module, (prefix,))]
    return FLOORS[max(prefixes, key=len)] if prefixes else None


@cache
def floor(module: str) -> int:
    """The module's own anchor, else that of the highest module of its role it reaches."""
    anchored = anchor(module)
    if anchored is not None or module not in SOURCES:
        return anchored or 0
    inside = [name for name in ours(module) if role_of(name) == role_of(module) and name != module]
    abroad = [name for name in ours(module) if role_of(name) not in (role_of(module), *GROUND)]
    return max([1, *map(floor, inside), *(CLIENTS for _ in abroad)])


def reach(module: str) -> set[str]:
    """Everything of ours that importing this module brings along."""
    seen: set[str] = set()
    todo = [module]
    while todo:
        for name in ours(todo.pop()) & SOURCES.keys():
            if name not in seen:
                seen.add(name)
                todo.append(name)
    return seen


def is_open_to(importer: str, name: str) -> bool:
    """Whether another role's module may be imported: its client side, from above the stores."""
    role, _, rest = name.partition(".")
    shown = within(rest, CLIENT_SIDE) and role in CALLS.get(role_of(importer), ())
    return shown and (importer in VOCABULARY or floor(importer) > STORES)


def calls_in(module: str) -> list[ast.Call]:
    return [node for node in ast.walk(tree_of(module)) if isinstance(node, ast.Call)]


def test_there_is_something_to_check():
    assert {role_of(module) for module in SOURCES} == set(PACKAGES)


def test_no_cycles():
    graph = {module: ours(module) & SOURCES.keys() for module in SOURCES}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


def test_imports_point_down():
    assert [
        f"{module} (floor {floor(module)}) imports {name} (floor {floor(name)})"
        for module in SOURCES
        for name in sorted(ours(module))
        if floor(name) > floor(module)
    ] == []


def test_the_ground_knows_no_role():
    allowed = {"osscore": ("osscore",), "ossd": GROUND}
    assert [
        f"{module} imports {name}"
        for module in SOURCES
        if role_of(module) in allowed
        for name in sorted(ours(module))
        if not within(name, allowed[role_of(module)])
    ] == []


def test_plumbing_knows_no_objects():
    # ossd serves any daemon: of the store's words it may use errors and digests only.
    assert [
        f"{module} imports {name}"
        for module in SOURCES
        if role_of(module) == "ossd"
        for name in sorted(ours(module))
        if role_of(name) == "osscore"
        and name not in ("osscore.errors", "osscore.digests", "osscore.buffers")
    ] == []


def test_roles_meet_only_at_their_clients():
    assert [
        f"{module} imports {name}"
        for module in SOURCES
        for name in sorted(ours(module))
        if role_of(name) not in (role_of(module), *GROUND) and not is_open_to(module, name)
    ] == []


def test_dialects_do_not_know_each_other():
    assert [
        f"{module} imports {name}"
        for module in SOURCES
        for name in sorted(ours(module))
        for mine in DIALECTS
        if within(module, (mine,)) and within(name, DIALECTS) and not within(name, (mine,))
    ] == []


def test_the_vocabulary_holds_words_only():
    assert [
        f"{module} imports {name}"
        for module in VOCABULARY
        for name in sorted(ours(module))
        if role_of(name) != "osscore" and name not in VOCABULARY
    ] == []


def test_strangers_never_meet():
    assert [
        f"{module} reaches {name}"
        for mine, others in STRANGERS
        for module in SOURCES
        if within(module, mine)
        for name in sorted(reach(module))
        if within(name, others)
    ] == []


def test_nobody_imports_a_composition_root():
    assert [
        f"{module} imports {name}" for module in SOURCES for name in ours(module) if is_root(name)
    ] == []


def test_osscore_is_pure():
    assert [
        f"{module} imports {name}"
        for module in SOURCES
        if role_of(module) == "osscore"
        for name in sorted(imports_of(module))
        if name.split(".")[0] in CORE_BANNED
    ] == []


def test_the_world_is_touched_only_at_the_seams():
    assert [
        f"{module} imports {name}"
        for module in SOURCES
        for name in sorted(imports_of(module))
        for outside, allowed in SEAMS.items()
        if within(name, (outside,)) and not within(module, allowed)
        if not (is_root(module) and outside in COMPOSITION_ROOT_MAY)
    ] == []


def test_files_are_opened_only_at_the_seam():
    found = []
    for module in SOURCES:
        if within(module, FILES_ALLOWED) or is_root(module):
            continue
        for call in calls_in(module):
            match call.func:
                case ast.Name(id="open"):
                    found.append(f"{module}:{call.lineno} open()")
                case ast.Attribute(attr=name) if name in FILE_CALLS:
                    found.append(f"{module}:{call.lineno} .{name}()")
    assert found == []


def test_time_is_read_only_at_the_seam():
    found = []
    for module in SOURCES:
        if within(module, CLOCK_ALLOWED):
            continue
        for call in calls_in(module):
            match call:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="datetime" | "date"), attr=name)
                ) if name in ("now", "utcnow", "today"):
                    found.append(f"{module}:{call.lineno} {name}()")
                # An event loop's own time is for its own timeouts only.
                case ast.Call(func=ast.Attribute(value=ast.Name(id="loop"), attr="time")):
                    pass
                case ast.Call(func=ast.Attribute(attr="time"), args=[], keywords=[]):
                    found.append(f"{module}:{call.lineno} .time()")
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="asyncio"), attr="sleep"), args=args
                ) if not (args and isinstance(args[0], ast.Constant) and args[0].value == 0):
                    found.append(f"{module}:{call.lineno} asyncio.sleep()")
    assert found == []


def test_heavy_modules_are_imported_late():
    found = []
    for module in SOURCES:
        late = {
            id(inner)
            for node in ast.walk(tree_of(module))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree_of(module)):
            names = {name.split(".")[0] for name in named_by(node)}
            if names & HEAVY and id(node) not in late:
                found.append(f"{module} imports {sorted(names & HEAVY)} when loaded")
    assert found == []


def test_imports_are_absolute():
    assert [
        f"{module}:{node.lineno}"
        for module in SOURCES
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.ImportFrom) and node.level
    ] == []


def test_an_init_holds_a_docstring_and_nothing_else():
    assert [
        module
        for module, path in SOURCES.items()
        if path.name == "__init__.py"
        and (ast.get_docstring(tree_of(module)) is None or len(tree_of(module).body) != 1)
    ] == []


def test_no_function_rebinds_a_global():
    assert [
        f"{module}:{node.lineno}"
        for module in SOURCES
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Global)
    ] == []


def test_module_names_say_something():
    assert [module for module in SOURCES if module.split(".")[-1] in EMPTY_NAMES] == []


def test_nothing_is_long():
    found = []
    paths = [*SOURCES.values(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]
    for path in paths:
        text = path.read_text()
        name = path.relative_to(ROOT)
        if (lines := len(text.splitlines())) > FILE_LINES_MAX:
            found.append(f"{name} has {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    found.append(f"{name}: {node.name} has {lines} lines")
    assert found == []


def test_every_package_is_listed_for_installation():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(project["tool"]["setuptools"]["packages"])
    data = set(project["tool"]["setuptools"]["package-dir"])  # folders of files, not of modules
    code = {module for module, path in SOURCES.items() if path.name == "__init__.py"}
    assert listed == code | data
    assert {module_name(path.parent / "__init__.py") for path in SOURCES.values()} <= listed
