"""The judge itself: each broken promise it exists for is one it sees."""

from typing import Any

import pytest

from tests.torture.ledger import KeyLedger
from tests.torture.verify import judge


def version(number: int, etag: str = "", *, marker: bool = False) -> dict[str, Any]:
    return {"version": number, "etag": etag, "is_marker": marker}


def entry() -> KeyLedger:
    return KeyLedger(acknowledged={"a": 1, "b": 2, "c": 4}, removed={"b"}, markers=1)


KEPT = [version(1, "a"), version(3, marker=True), version(4, "c")]


def test_a_kept_promise_is_no_problem() -> None:
    assert judge(entry(), KEPT) == []


@pytest.mark.parametrize(
    ("versions", "words"),
    [
        (KEPT[1:], "version 1 is lost"),
        ([*KEPT, version(5, "a")], "applied twice"),
        ([*KEPT, version(2, "b")], "came back"),
        ([version(1, "a"), version(4, "c")], "markers"),
        ([*KEPT, version(5, marker=True)], "markers"),
        ([version(1, "a"), version(3, marker=True), version(5, "c")], "now has number"),
        ([*KEPT, version(4, "")], "number was given twice"),
        ([*KEPT, version(6, "x")], "nobody wrote"),
    ],
)
def test_every_broken_promise_is_seen(versions: list[dict[str, Any]], words: str) -> None:
    assert any(words in problem for problem in judge(entry(), versions))


def test_what_is_unknown_may_be_there_or_not() -> None:
    open_ended = KeyLedger(
        acknowledged={"a": 1}, unknown={"u"}, maybe_removed={"a"}, maybe_markers=1
    )
    assert judge(open_ended, []) == []
    assert judge(open_ended, [version(1, "a"), version(2, "u"), version(3, marker=True)]) == []
