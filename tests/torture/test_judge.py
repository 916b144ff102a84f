"""The judge itself: each broken promise it exists for is one it sees."""

import random
from collections import Counter
from typing import Any

import pytest

from tests.torture.ledger import KeyLedger
from tests.torture.verify import judge
from tests.torture.workload import SIZES, WEIGHTS, make_body


def version(number: int, etag: str = "", *, marker: bool = False) -> dict[str, Any]:
    return {"version": number, "etag": etag, "is_marker": marker}


def entry() -> KeyLedger:
    return KeyLedger(acknowledged={1: "a", 2: "b", 4: "c"}, removed={2}, markers=1)


KEPT = [version(1, "a"), version(3, marker=True), version(4, "c")]


def test_a_kept_promise_is_no_problem() -> None:
    assert judge(entry(), KEPT) == []


@pytest.mark.parametrize(
    ("versions", "words"),
    [
        (KEPT[1:], "version 1 is lost"),
        ([*KEPT, version(5, "a")], "applied twice"),
        ([*KEPT, version(2, "b")], "came back"),
        ([version(1, "a"), version(4, "c")], "DELETE was lost"),
        ([*KEPT, version(5, marker=True)], "DELETE was applied twice"),
        ([version(1, "a"), version(3, marker=True), version(5, "c")], "now has another number"),
        ([version(1, "b"), *KEPT[1:]], "version 1 is lost: another has its number"),
        ([*KEPT, version(4, "")], "number was given twice"),
        ([*KEPT, version(6, "x")], "nobody wrote"),
    ],
)
def test_every_broken_promise_is_seen(versions: list[dict[str, Any]], words: str) -> None:
    assert any(words in problem for problem in judge(entry(), versions))


def test_what_is_unknown_may_be_there_or_not() -> None:
    open_ended = KeyLedger(
        acknowledged={1: "a"}, unknown=Counter("u"), maybe_removed={1}, maybe_markers=1
    )
    assert judge(open_ended, []) == []
    assert judge(open_ended, [version(1, "a"), version(2, "u"), version(3, marker=True)]) == []
    assert judge(open_ended, [version(2, "u"), version(3, "u")]) == ["a PUT was applied twice"]


def test_equal_contents_are_told_apart_by_their_numbers() -> None:
    same = KeyLedger(acknowledged={1: "0", 2: "0", 3: "0"}, removed={2}, unknown=Counter("0"))
    assert judge(same, [version(1, "0"), version(3, "0")]) == []
    assert judge(same, [version(1, "0"), version(3, "0"), version(4, "0")]) == []
    assert judge(same, [version(3, "0")]) == ["acknowledged version 1 is lost"]
    assert judge(same, [version(1, "0"), version(2, "0"), version(3, "0")]) == [
        "version 2 came back after its removal"
    ]
    twice = [version(number, "0") for number in (1, 3, 4, 5)]
    assert judge(same, twice) == ["a PUT was applied twice"]


def test_a_version_that_cannot_be_removed_was_lost_unless_it_was_tried_before() -> None:
    ledger = entry()
    assert "is lost" in (ledger.end_removal(4, 404) or "")
    assert ledger.end_removal(1, 0) is None and 1 not in ledger.removed
    assert ledger.end_removal(1, 404) is None and 1 in ledger.removed
    assert "refused" in (entry().end_removal(1, 400) or "")


def test_an_acknowledged_put_has_a_number_of_its_own() -> None:
    ledger = entry()
    ledger.begin_put("d")
    assert ledger.contents() == {"a", "b", "c", "d"}
    assert ledger.end_put("d", 5) is None and not +ledger.unknown
    ledger.begin_put("e")
    assert "version 5 is lost" in (ledger.end_put("e", 5) or "")


@pytest.mark.parametrize("size_bytes", SIZES)
def test_bodies_have_their_size_and_differ_where_they_can(size_bytes: int) -> None:
    rng = random.Random(size_bytes)
    bodies = [make_body(size_bytes, rng) for _ in range(10)]
    assert {len(body) for body in bodies} == {size_bytes}
    assert len(set(bodies)) == 10 or size_bytes < 16


def test_empty_bodies_and_single_bytes_are_part_of_the_work() -> None:
    assert {0, 1} <= {size for size, weight in zip(SIZES, WEIGHTS, strict=True) if weight}
