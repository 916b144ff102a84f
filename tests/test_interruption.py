"""Whatever ends a command, it gets to clean up."""

import os
import signal
import time

import pytest

from tests.interruption import WORDS, Interrupted, ignore_interruptions, interruptible


@pytest.mark.parametrize("number", [n for n in WORDS if n != signal.SIGALRM])
def test_a_signal_ends_the_block_and_its_meaning_comes_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=WORDS[number]), interruptible(seconds_max=60):
        os.kill(os.getpid(), number)
        time.sleep(5)
    assert signal.getsignal(number) == before
    assert signal.alarm(0) == 0


def test_time_is_limited() -> None:
    with pytest.raises(Interrupted, match="longer than it may"), interruptible(seconds_max=1):
        time.sleep(5)


def test_cleaning_up_is_not_interrupted() -> None:
    with interruptible(seconds_max=60):
        ignore_interruptions()
        for number in WORDS:
            os.kill(os.getpid(), number)
        assert signal.alarm(0) == 0
