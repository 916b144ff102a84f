"""Long work in steps: each is asked for from where the last one ended, and patiently."""

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import pytest

from cli.api import Api
from cli.steps import PATIENCE, steps
from osscore.errors import AccessDenied, NoLeader, StoreError


class Answers:
    """An Api that gives these answers in turn and remembers what it was asked."""

    def __init__(self, *answers: dict[str, Any] | StoreError) -> None:
        self.answers = list(answers)
        self.asked: list[str | None] = []
        self.runs: list[str | None] = []

    async def json(self, _method: str, _path: str, *, query: Mapping[str, str]) -> Any:
        self.asked.append(query.get("after"))
        self.runs.append(query.get("run"))
        answer = self.answers.pop(0)
        if isinstance(answer, StoreError):
            raise answer
        return answer


def run(answers: Answers, monkeypatch: pytest.MonkeyPatch, query: dict[str, str]) -> list[Any]:
    monkeypatch.setattr("cli.steps.PATIENCE", (0,) * len(PATIENCE))

    async def story() -> list[Any]:
        return [step["n"] async for step in steps(cast(Api, answers), "/path", query)]

    return asyncio.run(story())


def test_each_step_begins_where_the_last_one_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers({"n": 1, "next": "a"}, {"n": 2, "next": ""}, {"n": 3, "next": None})
    assert run(answers, monkeypatch, {"after": "start"}) == [1, 2, 3]
    assert answers.asked == ["start", "a", ""]


def test_the_newest_run_goes_along(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = {"n": 1, "next": "a", "run": "r1"}, {"n": 2, "next": "b", "run": "r2"}
    answers = Answers(
        first, NoLeader(), second, {"n": 3, "next": "c", "run": None}, {"n": 4, "next": None}
    )
    assert run(answers, monkeypatch, {"run": "r0"}) == [1, 2, 3, 4]
    assert answers.runs == ["r0", "r1", "r1", "r2", "r0"]


def test_an_election_in_the_middle_is_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers({"n": 1, "next": 7}, NoLeader(), NoLeader(), {"n": 2, "next": None})
    assert run(answers, monkeypatch, {}) == [1, 2]
    assert answers.asked == [None, "7", "7", "7"]


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers({"n": 1, "next": 7}, *[NoLeader()] * (len(PATIENCE) + 1))
    with pytest.raises(NoLeader):
        run(answers, monkeypatch, {})
    assert answers.answers == []


def test_a_refusal_and_the_very_first_failure_are_told_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for answers in (Answers(NoLeader()), Answers({"n": 1, "next": 7}, AccessDenied())):
        with pytest.raises(StoreError):
            run(answers, monkeypatch, {})
        assert answers.answers == []
