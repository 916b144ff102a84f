"""Configuration: a TOML file, the environment over it, flags over both.

A role describes what it can be told as one frozen `msgspec.Struct` with a default on each
field. `load` fills it and remembers where each value came from.

- File: keys at the top level are for every role, those in a table named like the role are
  for it alone and win. Keys this role does not know are errors, at the top level too unless
  another role's table could hold them (`shared`).
- Environment: `OSS_<FIELD>`, or `OSS_<FIELD>_FILE` naming a file that holds the value
  (secrets mounted by a container runtime); both at once are an error.
- Text values: a number may carry a unit where the field has one (`64MiB` for `..._bytes`,
  `10m` for `..._s`); several values are separated by commas.
"""

import difflib
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from osscore.errors import InvalidArgument

S = TypeVar("S", bound=msgspec.Struct)

ENV_PREFIX = "OSS_"
ROLES = ("blobd", "frontend", "raftmeta")
DEFAULT, FILE, ENVIRONMENT, FLAG = "default", "file", "environment", "flag"

_SECRET = re.compile(r"secret|token|password")
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_BYTES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12} | {
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class HostPort:
    """A place to listen or to connect to."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "HostPort":
        """`host:port`, `[v6]:port`; `:port` means every address. Raises InvalidArgument."""
        host, colon, port = text.rpartition(":")
        if not colon or not port.isdecimal() or int(port) > 65535:
            raise InvalidArgument(f"{text!r} is not of the form HOST:PORT.")
        return cls(host.strip("[]"), int(port))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def advertised_url(configured: str, http: str, *, port: int, machine: str) -> str:
    """Base URL under which others reach a process that listens on `http`, really on `port`.

    `configured` wins; who listens on every address is reached by the name of the machine.
    """
    if configured:
        return configured.rstrip("/")
    host = HostPort.parse(http).host
    return f"http://{HostPort(machine if host in ('', '0.0.0.0', '::') else host, port)}"


@dataclass(frozen=True, slots=True)
class Shown:
    """A line of `ossctl config show`: the value (secrets masked) and where it is from."""

    key: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class Loaded(Generic[S]):
    """The effective configuration; `origins[field]` says where each value came from."""

    struct: S
    origins: Mapping[str, str]

    def shown(self) -> list[Shown]:
        """Every field in order, for people; never a secret."""
        lines = []
        for field in msgspec.structs.fields(self.struct):
            value = getattr(self.struct, field.name)
            hidden = bool(value) and _SECRET.search(field.name) is not None
            text = "(hidden)" if hidden else str(value)
            lines.append(Shown(field.name, text, self.origins[field.name]))
        return lines


def load(
    kind: type[S],
    *,
    role: str,
    argv_flags: Mapping[str, object],
    environ: Mapping[str, str],
    file: Path | None,
    shared: Collection[str] = (),
) -> Loaded[S]:
    """Build `kind` from its defaults, the file, the environment and the flags given.

    A flag of value None was not given. `shared` are top-level file keys that only other
    roles know. Raises InvalidArgument naming the key, also for a file that cannot be read.
    """
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    values: dict[str, object] = {}
    origins = dict.fromkeys(fields, DEFAULT)

    def put(name: str, value: object, origin: str) -> None:
        values[name] = _typed(fields[name], value, origin)
        origins[name] = origin

    for name, value in _from_file(file, role, fields, shared).items():
        put(name, value, f"{FILE} {file}")
    for name, value, variable in _from_environment(fields, environ):
        put(name, value, f"{ENVIRONMENT} {variable}")
    for name, value in argv_flags.items():
        _known(name, fields, "The flag")
        if value is not None:
            put(name, value, FLAG)
    return Loaded(_build(kind, values), origins)


def _build(kind: type[S], values: dict[str, object]) -> S:
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"The configuration is not complete: {error}") from error


def _from_file(
    file: Path | None, role: str, fields: Collection[str], shared: Collection[str]
) -> dict[str, object]:
    if file is None:
        return {}
    try:
        found: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidArgument(f"The configuration file {file} cannot be read: {error}") from error
    tables: dict[str, dict[str, object]] = {
        name: found.pop(name) for name, value in list(found.items()) if isinstance(value, dict)
    }
    for name in tables:
        _known(name, {*ROLES, role}, f"{file}: the table")
    own = {name: value for name, value in found.items() if name not in shared}
    own.update(tables.get(role, {}))
    for name in own:
        _known(name, fields, f"{file}: the key")
    return own


def _from_environment(
    fields: Collection[str], environ: Mapping[str, str]
) -> list[tuple[str, str, str]]:
    # Unknown OSS_ variables are no errors: one environment serves all roles of a machine.
    found = []
    for name in fields:
        variable = ENV_PREFIX + name.upper()
        pointer = variable + "_FILE"
        if variable in environ and pointer in environ:
            raise InvalidArgument(f"Both {variable} and {pointer} are set; set one of them.")
        if variable in environ:
            found.append((name, environ[variable], variable))
        elif pointer in environ:
            found.append((name, _secret_file(Path(environ[pointer]), pointer), pointer))
    return found


def _secret_file(path: Path, variable: str) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{variable}: {path} cannot be read: {error}") from error


def _known(name: str, names: Collection[str], what: str) -> None:
    if name in names:
        return
    near = difflib.get_close_matches(name, list(names), n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise InvalidArgument(f"{what} {name!r} is not known.{hint}")


def _typed(field: msgspec.structs.FieldInfo, value: object, origin: str) -> Any:
    try:
        return msgspec.convert(_parsed(field, value), field.type, strict=False)
    except (msgspec.ValidationError, ValueError) as error:
        raise InvalidArgument(f"{field.name} (from {origin}): {error}") from error


def _parsed(field: msgspec.structs.FieldInfo, value: object) -> object:
    """A text value in the form msgspec can convert to the field's type."""
    if not isinstance(value, str):
        return list(value) if isinstance(value, tuple) else value
    described = msgspec.inspect.type_info(field.type)
    if isinstance(described, (msgspec.inspect.VarTupleType, msgspec.inspect.ListType)):
        return [part.strip() for part in value.split(",") if part.strip()]
    if re.search(r"_bytes(_|$)", field.name):
        return int(_quantity(value, _BYTES))
    if field.name.endswith("_s") and not field.name.endswith("_per_s"):
        seconds = _quantity(value, _SECONDS)
        return int(seconds) if seconds.is_integer() else seconds
    return value


def _quantity(text: str, units: Mapping[str, float]) -> float:
    match = _QUANTITY.fullmatch(text.strip())
    factor = units.get(match[2].lower()) if match else None
    if match is None or factor is None:
        allowed = ", ".join(unit for unit in units if unit)
        raise ValueError(f"{text!r} is not a number with one of the units {allowed}")
    return float(match[1]) * factor
