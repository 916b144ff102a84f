"""What `ossctl scan` tells people of what it was told."""

import json
from typing import Any

import pytest

from cli.output import ExitCode
from tests.cli.fake_frontend import Told, serving
from tests.cli.runner import ossctl

SOUND = "every shard is there"


def scanned(stripes: int, *words: str, **inline: Any) -> tuple[int, str]:
    """Exit status and output of a scan of one step in which all is well."""
    shards = {"checked": 6 * stripes, "good": 6 * stripes, "missing": 0, "corrupt": 0}
    step = {
        "stripes": stripes,
        "bytes": 100 * stripes,
        "shards": {**shards, "unreachable": 0, "repaired": 0, "confirmed": 0},
        "damaged": [],
        "unreadable": [],
        "inline": {"checked": 0, "unhashed": 0, "bytes": 0, "corrupt": []} | inline,
        "row": 7,
        "last_row": 7,
        "next": None,
    }
    with serving(lambda *_: Told(200, json.dumps(step).encode())) as frontend:
        done = ossctl(frontend.url, "scan", *words)
    return done.exit_code, done.stdout


def test_a_sound_store_is_said_to_be_so() -> None:
    code, said = scanned(3)
    assert code == ExitCode.OK
    assert "3 stripes and 18 shards checked" in said and SOUND in said


@pytest.mark.parametrize(
    ("words", "where"),
    [((), ""), (("--after", "99999"), " row 99999"), (("--after", "inline-7"), " inline-7")],
)
def test_a_scan_of_nothing_does_not_say_that_all_is_well(
    words: tuple[str, ...], where: str
) -> None:
    code, said = scanned(0, *words)
    assert code == ExitCode.OK
    assert said.startswith("nothing was examined") and said.rstrip().endswith(where)
    assert SOUND not in said


def test_objects_in_the_catalog_are_counted_apart() -> None:
    code, said = scanned(0, checked=5, unhashed=2, bytes=700)
    assert code == ExitCode.OK
    assert "7 short objects in the catalog checked, 2 of them by size alone" in said
    assert SOUND not in said and "nothing was examined" not in said


def test_one_that_differs_is_named_and_a_failure() -> None:
    corrupt = [{"bucket": "b", "key": f"k{n}", "version": 3} for n in range(25)]
    code, said = scanned(3, checked=30, corrupt=corrupt)
    assert code == ExitCode.FAILURE
    assert "not what was stored, in the catalog: oss://b/k0 version 3" in said
    assert "(and 5 more" in said and SOUND in said
    code, said = scanned(3, "--json", checked=30, corrupt=corrupt)
    assert code == ExitCode.FAILURE and json.loads(said)["inline"]["corrupt"] == corrupt
