"""What `ossctl object explain` tells people."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cli.explain import _print, survival
from cli.output import human_ago, human_span


def version(number: int, **more: Any) -> dict[str, Any]:
    plain = {"size": 1000, "is_marker": False, "is_latest": False}
    return {"version": number, "modified": "2026-01-02T03:04:05Z", **plain, **more}


def shard(index: int, verified: str | None) -> dict[str, Any]:
    where = {"node": f"blob-{index}", "disk": "ab" * 16, "zone": ""}
    return {"index": index, "generation": 0, "state": "good", "verified": verified, **where}


def explained(versions: list[dict[str, Any]], shards: list[dict[str, Any]]) -> dict[str, Any]:
    stripe = {
        "start": 0,
        "length": 1000,
        "coding": "2+1",
        "plain_bytes": 1000,
        "compressed_bytes": None,
        "references": 1,
        "shards": shards,
    }
    return {
        "key": "report.pdf",
        "version": versions[0],
        "versions": versions,
        "is_inline": False,
        "logical_bytes": 1000,
        "stored_bytes": 1500,
        "profiles": ["2+1"],
        "survives_nodes": 1,
        "survives_disks": 1,
        "survives_zones": None,
        "stripes": [stripe],
    }


def test_the_chain_of_versions_and_the_last_rereading(capsys: pytest.CaptureFixture[str]) -> None:
    an_hour_ago = (datetime.now(UTC) - timedelta(hours=3)).isoformat()
    shards = [shard(0, an_hour_ago), shard(1, an_hour_ago), shard(2, None)]
    chain = [version(3, is_latest=True), version(2, is_marker=True), version(1)]
    _print(explained(chain, shards))
    said = capsys.readouterr().out
    assert "current, shown here" in said and "delete marker" in said
    assert "the longest ago 3 h ago, 1 of 3 shards not since they were written" in said
    lines = [line.split() for line in said.splitlines() if "blob-" in line]
    assert [line[-3:] for line in lines[:2]] == [["3", "h", "ago"]] * 2
    assert lines[2][-1] == "-"


def test_a_long_chain_says_what_it_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    chain = [version(number) for number in range(15, 0, -1)]
    _print(explained(chain, [shard(0, None)]))
    assert "5 older ones" in capsys.readouterr().out


def test_what_may_be_lost() -> None:
    assert survival(-1, -1) == "nothing: it cannot be read now"
    assert survival(2, 2) == "the loss of any 2 nodes, or of any 2 disks"
    assert survival(1, 0, 1) == "the loss of any one node, or of no disk, or of any one zone"


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (119, "119 s"), (600, "10 min"), (7200, "2 h"), (9e5, "10 d")]
)
def test_spans(seconds: float, said: str) -> None:
    assert human_span(seconds) == said


def test_what_comes_from_a_clock_ahead_is_just_now() -> None:
    ahead = (datetime.now(UTC) + timedelta(seconds=30)).isoformat()
    assert human_ago(ahead) == "0 s ago"
