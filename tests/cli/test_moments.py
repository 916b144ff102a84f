"""Times on the command line, against a local zone and clock of the test's own."""

import time

import pytest

from cli import moments
from cli.moments import parse_at, parse_since, shown, which_version
from cli.output import UsageError
from tests.cli.runner import ossctl

NOW_MS = 1_772_366_400_250  # 2026-03-01T12:00:00.250Z


@pytest.fixture(autouse=True)
def in_vienna(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setenv("TZ", "Europe/Vienna")
    monkeypatch.setattr(moments.time, "time_ns", lambda: NOW_MS * 1_000_000)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "at", "since"),
    [
        # Without a zone as `ls -l` shows it: local, also by the summer time of that day.
        ("2026-02-28T10:00:00", "2026-02-28T09:00:00.999Z", "2026-02-28T09:00:00.000Z"),
        ("2025-07-01 10:00:00", "2025-07-01T08:00:00.999Z", "2025-07-01T08:00:00.000Z"),
        ("2026-02-28", "2026-02-27T23:00:00.999Z", "2026-02-27T23:00:00.000Z"),
        ("2026-02-28T10:00:00Z", "2026-02-28T10:00:00.999Z", "2026-02-28T10:00:00.000Z"),
        ("2026-02-28T10:00+05:30", "2026-02-28T04:30:00.999Z", "2026-02-28T04:30:00.000Z"),
        ("2026-02-28T10:00:00.5Z", "2026-02-28T10:00:00.500Z", "2026-02-28T10:00:00.500Z"),
        ("1772366400", "2026-03-01T12:00:00.999Z", "2026-03-01T12:00:00.000Z"),
        ("1772366400.25", "2026-03-01T12:00:00.250Z", "2026-03-01T12:00:00.250Z"),
        ("2h", "2026-03-01T10:00:00.250Z", "2026-03-01T10:00:00.250Z"),
        ("1d12h", "2026-02-28T00:00:00.250Z", "2026-02-28T00:00:00.250Z"),
        ("0", "2026-03-01T12:00:00.250Z", "2026-03-01T12:00:00.250Z"),
    ],
)
def test_a_time_means_the_second_that_listings_show(text: str, at: str, since: str) -> None:
    assert (parse_at(text), parse_since(text)) == (at, since)


@pytest.mark.parametrize(
    "text", ["", "noon", "3 days", "5y", "20260301", "2026-13-01", "1772366400000"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no"):
        parse_at(text)


def test_what_was_meant_is_told_with_its_zone() -> None:
    assert shown("2026-03-01T12:00:00.250Z") == "2026-03-01 13:00:00.250 +0100"


def test_a_version_and_a_time_do_not_go_together() -> None:
    assert which_version(3, None) == {"version": "3"} and which_version(None, None) == {}
    with pytest.raises(UsageError):
        which_version(3, "2h")


@pytest.mark.parametrize(
    "words",
    [
        ["ls", "--at", "noon"],
        ["ls", "--versions", "--at", "2h"],
        ["ls", "oss://", "--at", "2h"],
        ["get", "x", "--at", "2h", "--version", "1"],
        ["cat", "x", "--at", "noon"],
        ["stat", "x", "--at", "noon"],
        ["undelete", "x", "--since", "noon"],
        ["undelete", "x", "--dry-run"],
        ["undelete"],
        ["restore-prefix", "x", "--at", "noon"],
        ["restore-prefix", "x"],
        ["restore-prefix", "x", "--at", "2h", "--resume", "nowhere"],
    ],
)
def test_words_that_make_no_sense_end_with_2(words: list[str]) -> None:
    result = ossctl("http://127.0.0.1:9", *words)
    assert result.exit_code == 2, result.output
