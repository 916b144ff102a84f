"""What `ossctl` prints, and the exit codes it ends with."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, NoReturn

from rich.cells import cell_len
from rich.console import Console

from osscore.errors import (
    AccessDenied,
    InvalidArgument,
    InvalidName,
    MalformedBody,
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


SEVERITY = (
    ExitCode.DENIED,
    ExitCode.UNAVAILABLE,
    ExitCode.FAILURE,
    ExitCode.USAGE,
    ExitCode.NOT_FOUND,
)
"""Of several failures the first of these is the exit status: what stands in the way of more."""
FAILURES_SHOWN = 20


WRONG_WORDS = (InvalidArgument, InvalidName, MalformedBody)
"""What says that the command line was wrong, though only the store saw it: all names, values and
bodies of JSON that a command sends are made of its words."""


class UsageError(Exception):
    """The command line asks for something that makes no sense."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong with one of several things."""

    name: str
    error: Exception


class SomeFailed(Exception):
    """A command over `all_count` things failed for some; `begun_count` were tried."""

    def __init__(self, failures: Sequence[Failure], *, all_count: int, begun_count: int) -> None:
        super().__init__()
        self.failures = failures
        self.all_count = all_count
        self.begun_count = begun_count


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


def human_span(seconds: float) -> str:
    """'45 s', '12 min', '3 h', '9 d': in one unit, for people."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} d"


def human_ago(text: str) -> str:
    """How long ago an ISO 8601 time of the API was, by this machine's clock."""
    passed = datetime.now(UTC) - datetime.fromisoformat(text)
    return f"{human_span(max(0.0, passed.total_seconds()))} ago"


def exit_code(error: StoreError) -> ExitCode:
    """Which exit status an error means."""
    if isinstance(error, NotFound):
        return ExitCode.NOT_FOUND
    if isinstance(error, Unauthenticated | AccessDenied):
        return ExitCode.DENIED
    if isinstance(error, Unavailable):
        return ExitCode.UNAVAILABLE
    if isinstance(error, WRONG_WORDS):
        return ExitCode.USAGE
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
        sys.stdout.flush()  # what cannot be written is to be told here, not at the very end
    except SomeFailed as error:
        fail(*_told_of_many(error))
    except BrokenPipeError:
        _forget_stdout()  # its reader, such as `head`, has seen enough
        raise SystemExit(int(ExitCode.FAILURE)) from None
    except (StoreError, UsageError, OSError) as error:
        fail(*_told(error))
    except KeyboardInterrupt:
        fail(ExitCode.FAILURE, "interrupted")


def _told(error: Exception) -> tuple[ExitCode, str]:
    if isinstance(error, StoreError):
        return exit_code(error), error.message
    if isinstance(error, UsageError):
        return ExitCode.USAGE, str(error)
    if not isinstance(error, OSError):
        raise error
    reason = error.strerror or str(error)
    return ExitCode.FAILURE, f"{error.filename}: {reason}" if error.filename else reason


def _told_of_many(error: SomeFailed) -> tuple[ExitCode, str]:
    told = [(failure.name, *_told(failure.error)) for failure in error.failures]
    lines = [
        said if said.startswith(f"{name}: ") else f"{name}: {said}"
        for name, _, said in told[:FAILURES_SHOWN]
    ]
    if len(told) > FAILURES_SHOWN:
        lines.append(f"(and {len(told) - FAILURES_SHOWN} more)")
    done = error.begun_count - len(told)
    counts = f"{len(told)} of {error.all_count} failed, {done} done"
    if error.begun_count < error.all_count:
        counts += f", {error.all_count - error.begun_count} not begun"
    worst = min((code for _, code, _ in told), key=SEVERITY.index)
    return worst, "\nossctl: ".join([*lines, counts])


def _forget_stdout() -> None:
    """Let Python's own flush at exit go nowhere instead of failing."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def facts(pairs: Mapping[str, Any]) -> None:
    """A two-column list of facts."""
    width = max(len(name) for name in pairs)
    for name, value in pairs.items():
        console().print(f"{name:<{width}}  {value}", markup=False)
