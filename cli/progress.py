"""How far a transfer is, for whoever looks on at a terminal."""

import sys
from contextlib import AbstractContextManager, nullcontext


class Meter:
    """Hears how many bytes go by; this one keeps it to itself."""

    def expect(self, size_bytes: int) -> None:
        """That many come in all."""

    def count(self, size_bytes: int) -> None:
        """That many more went by."""


def progress(total_bytes: int | None, *, shown: bool) -> AbstractContextManager[Meter]:
    """A progress bar on standard error where that is a terminal, else nothing. Without a
    total the first expectation is it."""
    if not shown or not sys.stderr.isatty():
        return nullcontext(Meter())
    return _Bar(total_bytes)


class _Bar(Meter):
    """A rich progress bar as a Meter."""

    def __init__(self, total_bytes: int | None) -> None:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        from cli.output import stderr

        self._progress = Progress(
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=stderr(),
            transient=True,
            # Else what goes to a file or a pipe would come out between the bars.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._total_bytes = total_bytes
        self._task = self._progress.add_task("", total=total_bytes)

    def __enter__(self) -> Meter:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def expect(self, size_bytes: int) -> None:
        """The total, if it was not known from the start."""
        if self._total_bytes is None:
            self._total_bytes = size_bytes
            self._progress.update(self._task, total=size_bytes)

    def count(self, size_bytes: int) -> None:
        """Advance."""
        self._progress.advance(self._task, size_bytes)


class Tally:
    """Hears how far counted work is; this one keeps it to itself."""

    def show(self, done: int, total: int | None, text: str) -> None:
        """`done` of `total` (None: unknown), and what was found so far, in words."""


def tally(*, shown: bool) -> AbstractContextManager[Tally]:
    """A line on standard error where that is a terminal, else nothing."""
    if not shown or not sys.stderr.isatty():
        return nullcontext(Tally())
    return _Line()


class _Line(Tally):
    """A rich progress bar as a Tally."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        from cli.output import stderr

        self._progress = Progress(
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=stderr(),
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
        )
        self._task = self._progress.add_task("", total=None)

    def __enter__(self) -> Tally:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, done: int, total: int | None, text: str) -> None:
        """Draw it."""
        self._progress.update(self._task, completed=done, total=total, description=text)
