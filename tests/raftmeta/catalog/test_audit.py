"""The audit: a row with each use of an administrative right, refused ones too, exactly once."""

import pytest

from raftmeta.catalog import apply_audit, query_credentials
from raftmeta.commands import CreateBucket, Done
from raftmeta.credentials import (
    AuditListed,
    AuditNote,
    AuditRow,
    ListAudit,
    NoteAudit,
    PutAccessKey,
    RevokeAccessKey,
)
from raftmeta.entries import Entry
from tests.raftmeta.catalog.harness import Driver, refusal


def note(action: str, actor: str = "ROOT", target: str = "") -> AuditNote:
    return AuditNote(actor=actor, action=action, target=target, request_id="r", source="::1")


def run_audited(driver: Driver, command: object, audit: AuditNote) -> object:
    driver.now_ms += 10
    plain = driver.next(command)  # type: ignore[arg-type]
    return driver.apply(Entry(plain.session, plain.seq, plain.command, 0, audit))[0]


def rows(driver: Driver, **query: object) -> list[AuditRow]:
    listed = driver.ask(ListAudit(**query))  # type: ignore[arg-type]
    assert isinstance(listed, AuditListed)
    return list(listed.rows)


def test_the_row_says_who_did_what_when_and_how_it_ended(driver: Driver) -> None:
    key = PutAccessKey(access_key="A", secret_sealed=b"s", scopes=("info",))
    run_audited(driver, key, note("key.create", target="A"))
    assert refusal(run_audited(driver, RevokeAccessKey(access_key="B"), note("key.revoke")))
    assert run_audited(driver, NoteAudit(), note("key.list", actor="system")) == Done()
    created, refused, listed = rows(driver)
    assert (created.actor, created.action, created.target) == ("ROOT", "key.create", "A")
    assert (created.request_id, created.source, created.outcome) == ("r", "::1", "done")
    assert (refused.action, refused.outcome) == ("key.revoke", "NoSuchAccessKey")
    assert (listed.actor, listed.number) == ("system", 3)
    assert listed.at_ms == driver.catalog.head.catalog_time_ms


def test_a_repeated_command_is_one_row(driver: Driver) -> None:
    plain = driver.next(CreateBucket(bucket="audited"))
    entry = Entry(plain.session, plain.seq, plain.command, 0, note("bucket.create"))
    assert driver.apply(entry) == driver.apply(entry) == [Done()]
    assert len(rows(driver)) == 1


def test_commands_without_a_note_leave_no_row(driver: Driver) -> None:
    driver.run(CreateBucket(bucket="quiet"))
    assert rows(driver) == []


def test_the_oldest_rows_go_beyond_the_bound(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply_audit, "AUDIT_ROWS_MAX", 5)
    for _ in range(12):
        run_audited(driver, NoteAudit(), note("x"))
    assert [row.number for row in rows(driver)] == [8, 9, 10, 11, 12]
    monkeypatch.setattr(apply_audit, "AUDIT_ROWS_MAX", 2)
    run_audited(driver, NoteAudit(), note("x"))
    assert [row.number for row in rows(driver)] == [12, 13]
    assert driver.catalog.contradictions() == []


def test_long_texts_are_cut(driver: Driver) -> None:
    run_audited(driver, NoteAudit(), note("a" * 5000, actor="b" * 5000, target="c" * 5000))
    (row,) = rows(driver)
    assert (len(row.action), len(row.actor), len(row.target)) == (128, 128, 1100)


def pages(driver: Driver, **query: object) -> list[int]:
    numbers: list[int] = []
    after: int | None = 0
    while after is not None:
        page = driver.ask(ListAudit(after=after, **query))  # type: ignore[arg-type]
        assert isinstance(page, AuditListed)
        numbers += [row.number for row in page.rows]
        after = page.next
    return numbers


def test_pages_filters_and_both_orders(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(9):
        action = ("key.create", "key", "keys.list")[number % 3]
        run_audited(driver, NoteAudit(), note(action, actor="AB"[number % 2]))
    for visited_max in (10_000, 2, 1):
        monkeypatch.setattr(query_credentials, "VISITED_MAX", visited_max)
        assert pages(driver, limit=2) == list(range(1, 10))
        assert pages(driver, limit=2, newest_first=True) == list(range(9, 0, -1))
        assert pages(driver, limit=2, actor="A") == [1, 3, 5, 7, 9]
        assert pages(driver, limit=2, action="key") == [1, 2, 4, 5, 7, 8]
        assert pages(driver, limit=1, action="key.create", actor="B") == [4]
        assert pages(driver, action="nothing") == []
