"""The short form of `make fuzz`, and that it notices what it is there to notice."""

import random
from base64 import b64encode

import pytest

from tests.surface.cluster import SurfaceStore
from tests.surface.fuzz.campaign import Campaign
from tests.surface.fuzz.judge import Judge
from tests.surface.fuzz.shots import BLOB_DAEMON, FRONTEND, Material, Shooter, Shot
from tests.surface.raw import RawAnswer

REQUESTS = 1_500
WHOLE = Shot(b"GET / HTTP/1.1\r\n\r\n", "GET", must_answer=True)
BYTES = Shot(b"\x00", "GET", must_answer=False)


def material() -> Material:
    """Something to make requests of without a store."""
    return Material("Basic " + b64encode(b"a:b").decode(), "system-token-of-no-store")


@pytest.mark.cluster
def test_nothing_that_is_sent_harms_the_store(store: SurfaceStore) -> None:
    with store.same_processes():
        report = Campaign(store, REQUESTS, seed=11).run()
    assert report["violations_count"] == 0, report["violations"]
    assert report["requests"] >= REQUESTS and len(report["doors"]) == 3
    # It got past the first check often enough to mean something, and was refused in many ways.
    good = sum(report["statuses"].get(str(code), 0) for code in (200, 201, 204, 206))
    assert good > REQUESTS / 20, report["statuses"]
    assert {"400", "401", "404", "405", "409", "422"} <= report["statuses"].keys()


def test_shots_are_the_same_for_a_seed_and_differ_otherwise() -> None:
    def shots(seed: str) -> list[bytes]:
        shooter = Shooter(seed, material())
        return [shooter.shot(FRONTEND).sent for _ in range(200)]

    assert shots("1") == shots("1") != shots("2")
    assert len(set(shots("1"))) > 190


def test_every_kind_of_shot_can_be_made() -> None:
    shooter = Shooter("kinds", material())
    whole = 0
    for number in range(6_000):
        shot = shooter.shot(BLOB_DAEMON if number % 4 == 0 else FRONTEND)
        whole += shot.must_answer
        assert isinstance(shot.sent, bytes)
    assert 2_000 < whole < 6_000


@pytest.mark.parametrize(
    ("shot", "answer", "is_bad"),
    [
        (WHOLE, RawAnswer(200, {}, b""), False),
        (WHOLE, RawAnswer(404, {}, b""), False),
        (WHOLE, RawAnswer(503, {}, b""), False),
        (WHOLE, RawAnswer(507, {}, b""), False),
        (WHOLE, RawAnswer(500, {}, b""), True),
        (WHOLE, RawAnswer(502, {}, b""), True),
        (WHOLE, RawAnswer(0, {}, b""), True),
        (WHOLE, None, True),
        (BYTES, RawAnswer(500, {}, b""), True),
        (BYTES, RawAnswer(0, {}, b""), False),
        (BYTES, None, False),
    ],
)
def test_a_failure_of_the_server_or_silence_is_told(
    shot: Shot, answer: RawAnswer | None, is_bad: bool
) -> None:
    judge = Judge()
    judge.note("door", shot, answer)
    judge.check_busy()
    assert bool(judge.violations) is is_bad
    assert judge.violations_count == len(judge.violations)


def test_a_store_that_is_often_too_busy_is_told() -> None:
    judge = Judge()
    for _ in range(random.Random(1).randrange(100, 200)):
        judge.note("door", WHOLE, RawAnswer(503, {}, b""))
    judge.check_busy()
    assert "503" in judge.violations[0]
