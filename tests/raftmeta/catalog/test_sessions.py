"""Exactly once (SAFETY rule 19) and catalog time (SAFETY rule 17)."""

import sqlite3

import pytest

from osscore.model import ObjectAttributes
from raftmeta.catalog.apply_sessions import RESULTS_DROPPED_MAX
from raftmeta.commands import (
    Collect,
    Collected,
    ConfirmTime,
    CreateBucket,
    Done,
    InlineBody,
    ObjectPut,
    OpenSession,
    PutObject,
    SessionOpened,
)
from raftmeta.entries import Entry
from raftmeta.queries import CatalogCounted, CountCatalog
from tests.raftmeta.catalog.harness import MINUTE_MS, Driver, refusal


def put_command(key: str = "k") -> PutObject:
    return PutObject(
        bucket="bucket",
        key=key,
        attributes=ObjectAttributes(size_bytes=1),
        body=InlineBody(data=b"x"),
    )


def counted(driver: Driver) -> CatalogCounted:
    answer = driver.ask(CountCatalog())
    assert isinstance(answer, CatalogCounted)
    return answer


def test_a_retried_command_returns_its_first_result_and_changes_nothing(driver: Driver) -> None:
    entry = driver.next(put_command())
    first = driver.apply(entry)
    driver.put_inline("k", b"later")
    assert driver.apply(entry, entry) == [first[0], first[0]]
    assert counted(driver).versions == 2


def test_a_retried_refusal_stays_refused(driver: Driver) -> None:
    entry = driver.next(CreateBucket(bucket="bucket"))
    driver.apply(entry)
    assert refusal(driver.apply(entry)[0]) == "BucketAlreadyExists"


def test_retries_inside_one_batch_are_applied_once(driver: Driver) -> None:
    entry = driver.next(put_command())
    first, second = driver.apply(entry, entry)
    assert isinstance(first, ObjectPut) and first == second


def test_a_command_of_an_unknown_session_is_not_applied(driver: Driver) -> None:
    assert refusal(driver.apply(Entry(12345, 1, put_command()))[0]) == "SessionExpired"
    assert counted(driver).versions == 0


def test_a_command_without_session_is_refused_unless_its_repetition_is_harmless(
    driver: Driver,
) -> None:
    assert refusal(driver.apply(Entry(0, 0, put_command()))[0]) == "InvalidArgument"
    assert isinstance(driver.apply(Entry(0, 0, Collect(grace_ms=0)))[0], Collected)


def test_an_idle_session_expires_and_takes_its_results_along(driver: Driver) -> None:
    old = driver.next(put_command())
    driver.apply(old)
    driver.pass_time(11 * MINUTE_MS, idle=True)
    assert driver.collect() == Collected(sessions=1)
    assert refusal(driver.apply(old)[0]) == "SessionExpired"
    assert (counted(driver).sessions, counted(driver).versions) == (0, 1)
    assert rows(driver, "results") == 0


def test_a_session_in_use_does_not_expire(driver: Driver) -> None:
    for _ in range(4):
        driver.pass_time(6 * MINUTE_MS, idle=True)
        driver.run(put_command())
        driver.collect()
    assert counted(driver).sessions == 1


def test_a_half_dropped_session_applies_nothing_twice(driver: Driver) -> None:
    entries = [driver.next(put_command(f"k{number}")) for number in range(600)]
    driver.apply(*entries)
    driver.pass_time(11 * MINUTE_MS, idle=True)
    driver.collect()
    assert 0 < rows(driver, "results") < 600, "one step drops a bounded part"
    assert refusal(driver.apply(entries[0])[0]) == "SessionExpired"
    while driver.collect() != Collected():
        pass
    assert (rows(driver, "results"), rows(driver, "sessions")) == (0, 0)


def test_acknowledged_results_are_dropped_and_their_commands_stay_applied_once(
    driver: Driver,
) -> None:
    first = driver.next(put_command())
    driver.apply(first)
    second = driver.next(put_command())
    driver.apply(Entry(second.session, second.seq, second.command, acked_below=second.seq))
    assert rows(driver, "results") == 1
    assert refusal(driver.apply(first)[0]) == "Conflict"
    assert counted(driver).versions == 2


def test_many_results_acknowledged_at_once_are_dropped_in_bounded_steps(driver: Driver) -> None:
    """SAFETY rule 18: one slow command held back the acknowledgement of all the others."""
    entries = [driver.next(put_command()) for _ in range(RESULTS_DROPPED_MAX + 100)]
    driver.apply(*entries)
    writer: sqlite3.Connection = driver.catalog._writer
    before = writer.total_changes
    for _ in range(2):
        entry = driver.next(put_command())
        driver.apply(Entry(entry.session, entry.seq, entry.command, acked_below=entry.seq))
        assert writer.total_changes - before < RESULTS_DROPPED_MAX + 50
        before = writer.total_changes
        assert refusal(driver.apply(entries[-1])[0]) == "Conflict", "dropped or not yet"
    assert rows(driver, "results") == 1


def test_an_entry_cannot_acknowledge_its_own_answer(driver: Driver) -> None:
    entry = driver.next(put_command())
    eager = Entry(entry.session, entry.seq, entry.command, acked_below=entry.seq + 10)
    assert driver.apply(eager) == driver.apply(eager)


def test_sessions_never_share_a_number(driver: Driver) -> None:
    opened = driver.apply(*[Entry(0, 0, OpenSession()) for _ in range(3)])
    numbers = {result.session for result in opened if isinstance(result, SessionOpened)}
    assert len(numbers | {driver.session}) == 4


def test_catalog_time_grows_with_each_batch_even_if_clocks_go_back(driver: Driver) -> None:
    before = driver.catalog.head.catalog_time_ms
    driver.now_ms -= 100_000
    driver.apply()
    assert driver.catalog.head.catalog_time_ms == before + 1
    driver.now_ms = before + 50
    driver.apply()
    assert driver.catalog.head.catalog_time_ms == before + 50


def test_a_broken_clock_does_not_carry_time_away(driver: Driver) -> None:
    before = driver.catalog.head.catalog_time_ms
    driver.now_ms = 1 << 62
    driver.apply()
    assert driver.catalog.head.catalog_time_ms == before + 1


def test_the_first_batch_is_no_jump(empty: Driver) -> None:
    empty.apply()
    assert not counted(empty).time_jumped


def test_a_jump_pauses_expiry_until_confirmed(driver: Driver) -> None:
    driver.now_ms += 61 * MINUTE_MS
    driver.apply()
    assert counted(driver).time_jumped
    assert driver.collect() == Collected()
    session = driver.open()
    assert driver.apply(Entry(session, 1, ConfirmTime()))[0] == Done()
    assert not counted(driver).time_jumped
    assert driver.collect() == Collected(sessions=1)


@pytest.mark.parametrize("minutes", [1, 60])
def test_up_to_an_hour_is_no_jump(driver: Driver, minutes: int) -> None:
    driver.now_ms = driver.catalog.head.catalog_time_ms + minutes * MINUTE_MS
    driver.apply()
    assert not counted(driver).time_jumped


def rows(driver: Driver, table: str) -> int:
    db = sqlite3.connect(driver.path)
    try:
        return int(db.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])
    finally:
        db.close()
