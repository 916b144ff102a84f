"""What `ossctl` prints, and the exit codes it ends with."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from enum import IntEnum
from typing import Any, NoReturn

from rich.cells import cell_len
from rich.console import Console

from osscore.errors import (
    AccessDenied,
    NotFound,
    StoreError,
    Unauthenticated,
    Unavailable,
)


class ExitCode(IntEnum):
    """Stable meanings of the process's exit status."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_FOUND = 3
    DENIED = 4
    UNAVAILABLE = 5


class UsageError(Exception):
    """The command line asks for something that makes no sense."""


def console() -> Console:
    """Standard output; plain where it is no terminal."""
    return Console(highlight=False, soft_wrap=True)


def stderr() -> Console:
    """Standard error, for progress and errors."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: object) -> None:
    """One JSON document on one line, for programs."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


RIGHT_ALIGNED = ("SIZE", "VERSION", "USED", "FREE", "CAPACITY", "TERM", "INDEX")


def print_table(columns: list[str], rows: list[list[str]]) -> None:
    """A plain aligned table; numbers are the caller's to format.

    Laid out here: rich's own tables read '[b]' in a name as markup and fold long names,
    which breaks what scripts read from a pipe.
    """
    widths = [max(map(cell_len, cells)) for cells in zip(columns, *rows, strict=True)]
    out = console()
    for number, row in enumerate([columns, *rows]):
        cells = []
        for name, text, width in zip(columns, row, widths, strict=True):
            padding = " " * (width - cell_len(text))
            cells.append(padding + text if name in RIGHT_ALIGNED else text + padding)
        out.print("  ".join(cells).rstrip(), style="" if number else "bold", markup=False)


def human_bytes(size_bytes: float) -> str:
    """'1.5 MiB': for people; programs use --json."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(size_bytes) < 1024 or unit == "TiB":
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    raise AssertionError("unreachable")


def human_time(text: str) -> str:
    """An ISO 8601 time of the API as local time to the second."""
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def exit_code(error: StoreError) -> ExitCode:
    """Which exit status an error means."""
    if isinstance(error, NotFound):
        return ExitCode.NOT_FOUND
    if isinstance(error, Unauthenticated | AccessDenied):
        return ExitCode.DENIED
    if isinstance(error, Unavailable):
        return ExitCode.UNAVAILABLE
    return ExitCode.FAILURE


def fail(code: ExitCode, message: str) -> NoReturn:
    """Print `message` as an error and end the process."""
    sys.stderr.write(f"ossctl: {message}\n")
    raise SystemExit(int(code))


@contextmanager
def errors_as_exit_codes() -> Iterator[None]:
    """The outermost boundary of each command."""
    try:
        yield
    except StoreError as error:
        fail(exit_code(error), error.message)
    except UsageError as error:
        fail(ExitCode.USAGE, str(error))
    except FileNotFoundError as error:
        fail(ExitCode.FAILURE, f"{error.filename}: no such file or folder")
    except OSError as error:
        fail(ExitCode.FAILURE, f"{error.filename or ''}: {error.strerror or error}".lstrip(": "))
    except KeyboardInterrupt:
        fail(ExitCode.FAILURE, "interrupted")


def facts(pairs: Mapping[str, Any]) -> None:
    """A two-column list of facts."""
    width = max(len(name) for name in pairs)
    for name, value in pairs.items():
        console().print(f"{name:<{width}}  {value}", markup=False)
