"""Commands that start clusters end them, whatever ends the command."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

WORDS = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "told to end",
    signal.SIGHUP: "the terminal is gone",
    signal.SIGALRM: "took longer than it may",
}


class Interrupted(Exception):
    """A signal, or the time limit, asks for the end; the message says which."""


@contextmanager
def interruptible(*, seconds_max: int) -> Iterator[None]:
    """A block that ends with Interrupted on Ctrl-C, SIGTERM, SIGHUP or after `seconds_max`."""
    before = {number: signal.signal(number, _interrupt) for number in WORDS}
    signal.alarm(seconds_max)
    try:
        yield
    finally:
        signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_interruptions() -> None:
    """From here on clean up in peace; the end of `interruptible` undoes it."""
    signal.alarm(0)
    for number in WORDS:
        signal.signal(number, signal.SIG_IGN)


def _interrupt(number: int, _: FrameType | None) -> None:
    raise Interrupted(WORDS[signal.Signals(number)])
