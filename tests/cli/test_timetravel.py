"""What restore-prefix and undelete --since tell, and how they go on after an interruption."""

import json
import re
import shlex
from typing import Any

import pytest

from tests.cli.fake_frontend import Told, refusal, serving
from tests.cli.runner import ossctl

BEGAN = "2026-03-02T12:00:00.000Z"
AT = "2026-03-01T12:00:00.500Z"
OUTCOMES = ("restored", "hidden", "changed", "removed", "unknown")


def step(following: str | None, *outcomes: str, unchanged: int = 0) -> Told:
    """An answer in which so became of as many objects."""
    objects: list[dict[str, Any]] = [
        {"key": f"{outcome}-{number}", "outcome": outcome, "version": 3}
        for number, outcome in enumerate(outcomes)
    ]
    counts = {outcome: outcomes.count(outcome) for outcome in OUTCOMES}
    answer = {"began": BEGAN, "visited": len(outcomes) + unchanged, **counts}
    answer |= {"objects": objects, "next": following, "run": None}
    return Told(body=json.dumps(answer).encode(), headers={"Content-Type": "application/json"})


@pytest.mark.parametrize(("verb", "word"), [("restore-prefix", "at"), ("undelete", "since")])
def test_an_interrupted_one_tells_how_to_go_on_and_goes_on_there(verb: str, word: str) -> None:
    answers = [step("k 'x'", "restored", "restored"), refusal(403, "AccessDenied", "no more")]
    with serving(lambda method, path, body: answers.pop(0)) as frontend:
        broken = ossctl(frontend.url, verb, "p/", f"--{word}", AT)
        assert broken.exit_code == 4
        assert "so far 2 restored, 0 hidden" in broken.output
        told = re.search(r"go on with (.*)", broken.output)
        assert told is not None
        answers.append(step(None, "restored", unchanged=2))
        done = ossctl(frontend.url, verb, "p/", *shlex.split(told[1]))
        assert done.exit_code == 0
        assert "of 3 names looked at behind k 'x'" in done.output
        first, second, again = frontend.queries
    assert (first[word], first["prefix"], "began" in first) == (AT, "p/", False)
    assert second == {**first, "after": "k 'x'", "began": BEGAN}
    assert again == second


def test_each_count_is_told_with_what_it_means() -> None:
    answer = step(None, "restored", "hidden", "changed", "removed", "unknown", unchanged=4)
    with serving(lambda method, path, body: answer) as frontend:
        said = ossctl(frontend.url, "restore-prefix", "p/", "--at", AT, "--dry-run").output
        (asked,) = frontend.queries
    assert asked["dry_run"] == "1"
    assert "1 would become again what they were at" in said and "of 9 names looked at" in said
    assert "1 changed: left alone: written or deleted by others" in said
    assert "1 removed: left alone: the version of then was removed since (pruned" in said
    assert "1 unknown: left alone: too much of their past" in said
    assert said.rstrip().endswith("a dry run: nothing was changed")
