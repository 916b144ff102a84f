"""The list of deliberate breakages fits the code it breaks."""

import pytest

from tests.torture.breakages import BREAKAGES, ROOT, Breakage, misfits


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.claim)
def test_every_breakage_still_finds_what_it_breaks(breakage: Breakage) -> None:
    assert misfits(breakage) == []


def test_the_document_lists_exactly_these() -> None:
    lines = (ROOT / "docs" / "proofs.md").read_text().splitlines()
    begin = lines.index("## Breakages of the kill loops")
    end = next(i for i in range(begin + 1, len(lines)) if lines[i].startswith("## "))
    rows = [line.split(" | ") for line in lines[begin:end] if line[:3].strip("| ").isdecimal()]
    assert [tuple(row[1:3]) for row in rows] == [(each.claim, each.what) for each in BREAKAGES]
