"""Durations as people give them, and as they are shown again."""

import pytest

from cli.durations import parse_duration, parse_life, shown_duration
from cli.output import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("1h30m", 5400), ("30d", 2_592_000), ("2w", 1_209_600), ("0", 0)],
)
def test_what_it_means(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds
    assert parse_duration(shown_duration(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "1.5h", "-1h", "never", "off"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError):
        parse_duration(text)


def test_a_life_may_be_off() -> None:
    assert (parse_life("off"), parse_life(" OFF "), parse_life("30d")) == (0, 0, 2_592_000)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0s"), (90, "1m30s"), (3600, "1h"), (2_592_000, "30d")]
)
def test_what_is_shown(seconds: int, shown: str) -> None:
    assert shown_duration(seconds) == shown
