"""Every step of the journal's compaction: a power cut or a failure there loses nothing."""

import itertools
import random

import pytest

from tests.fakes.disk import Fault, SimulatedDisk, crash_points
from tests.raftmeta.test_journal import SMALL, contents, new_journal, reopen

CUTS_EACH = 20
LogRows = list[tuple[int, int, bytes]]


class Compaction:
    """A journal that is cut five times while it grows, and what it had promised so far."""

    steps: list[str]
    synced: LogRows
    written: LogRows
    durable_index: int

    def run(self, disk: SimulatedDisk) -> None:
        """May end anywhere, by PowerCut."""
        self.steps, self.durable_index = [], 0
        self.synced, self.written = cut_log_history(), cut_log_history()
        disk.fail(lambda operation: self.steps.append(operation.kind))
        journal = reopen(disk, SMALL)
        for durable_index in (6, 15, 16, 30, 38):
            self.durable_index = durable_index
            journal.cut(durable_index)
            row = (journal.last_index + 1, 2, b"z" * 50)
            self.written.append(row)
            journal.append(*row)
            journal.sync()
            self.synced.append(row)
        journal.close()


def cut_log_history() -> LogRows:
    """Entries 5 to 19 of term 1 lost against those of term 2."""
    return [
        *((index, 1, b"x" * 50) for index in range(1, 5)),
        *((index, 2, b"y" * 50) for index in range(5, 40)),
    ]


def disk_with_a_long_log() -> SimulatedDisk:
    disk = SimulatedDisk()
    journal = new_journal(disk, SMALL)
    journal.set_term(1, None)
    for index in range(1, 20):
        journal.append(index, 1, b"x" * 50)
        journal.sync()
    journal.set_term(2, "b")
    journal.truncate(5)
    for row in cut_log_history()[4:]:
        journal.append(*row)
        journal.sync()
    journal.close()
    return disk


def test_power_cut_at_every_step_of_compaction_loses_nothing_the_catalog_lacks():
    story = Compaction()
    found_count = 0
    for _, disk in crash_points(story.run, make=disk_with_a_long_log, cuts_each=CUTS_EACH):
        found_count += 1
        after = reopen(disk, SMALL)
        base = after.base_index
        assert base <= story.durable_index
        assert after.base_term == ([0] + [term for _, term, _ in story.written])[base]
        found = contents(after)
        assert found in (story.synced[base:], story.written[base:])
        assert (after.term, after.voted_for) == (2, "b")
        after.append(base + len(found) + 1, 2, b"and on")
        after.close()
        assert contents(reopen(disk, SMALL)) == [*found, (base + len(found) + 1, 2, b"and on")]
    # The last run came to its end: it took every step the others were cut at.
    assert story.steps.count("unlink") >= 8
    step_count = sum(kind != "pread" for kind in story.steps)
    assert found_count == CUTS_EACH * (step_count + 1)


@pytest.mark.parametrize("kind", ["unlink", "sync_directory"])
def test_failure_at_any_step_of_compaction_stops_the_journal_and_loses_nothing(kind):
    failing = 0
    while True:
        disk = disk_with_a_long_log()
        journal = reopen(disk, SMALL)
        end = disk.fail(error_at(kind, failing))
        try:
            journal.cut(38)
            break
        except OSError:
            pass
        end()
        with pytest.raises(OSError, match="failed before"):
            journal.append(40, 2, b"not written")
        journal.abandon()
        after = reopen(disk.power_cut(random.Random(failing)), SMALL)
        assert contents(after) == cut_log_history()[after.base_index :]
        failing += 1
    assert failing >= 8


def error_at(kind: str, number: int) -> Fault:
    """EIO at the operation of that kind which comes after `number` others."""
    seen = itertools.count()
    return lambda asked: 5 if asked.kind == kind and next(seen) == number else None
