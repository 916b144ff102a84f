"""Metanodes come and go: real processes. `make members` tells more of the same story."""

import base64
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from ossd.rpc import AioRpc
from tests.cluster.harness import Cluster, wait_until
from tests.cluster.local import LocalStore
from tests.members.story import Told, exchange_one

pytestmark = pytest.mark.cluster

FAILURE, USAGE, NOT_FOUND = 1, 2, 3
MEMBERS = "/v1/meta/members"


def test_metanodes_are_exchanged_under_writers_and_a_dying_leader_and_the_daemons_follow(
    tmp_path: Path,
) -> None:
    with Cluster(tmp_path, environment={"OSS_HEARTBEAT_S": "0.3"}) as cluster:
        cluster.form_metanodes(3)
        cluster.add_blobd("blob-1")
        frontend = cluster.add_frontend()

        async def tell(rpc: AioRpc) -> Told:
            return await exchange_one(cluster, rpc)

        told = cluster.run_rpc(tell)
        assert told.acknowledged > 50 and told.leader_kills == 1
        # The one that leads now was in nobody's configuration, and yet it was told of both.
        assert [node.health for node in told.described.nodes] == ["up"]
        shown = {each.frontend: each.health for each in told.described.frontends}
        assert shown["frontend-1"] == "up"

        # One command puts an empty one in the place of a dead one.
        members_url = frontend.url + MEMBERS
        before = metanodes(cluster, members_url)
        old = next(name for name, state in before.items() if state == "member")
        node = next(each for each in cluster.metanodes if each.name == old)
        leader = next(each for each in cluster.metanodes if before.get(each.name) == "leader")
        cluster.add_newcomer(5, peer=leader)
        node.kill()
        change = {"id": "meta-5", "replaces": old}
        after = wait_until(
            lambda: metanodes(cluster, members_url, "POST", change), what="meta-5 to count"
        )
        assert set(after) == set(before) - {old} | {"meta-5"}
        assert after["meta-5"] == "member"
        left = metanodes(cluster, f"{members_url}/meta-5", "DELETE")
        assert set(left) == set(after) - {"meta-5"}
        found = ask(cluster, f"{frontend.url}/v1/audit")["entries"]
        rows = [(row["action"], row["target"], row["outcome"]) for row in found]
        assert rows.count(("meta.add", "meta-5", "done")) == 2
        assert rows.count(("meta.remove", "meta-5", "done")) == 1


def metanodes(
    cluster: Cluster, url: str, method: str = "GET", change: dict[str, str] | None = None
) -> dict[str, str]:
    """State by id, after a change if there is one; {} while its newcomer has not joined yet."""
    try:
        shown = ask(cluster, url, method, change)["metanodes"]
    except urllib.error.HTTPError as error:
        assert error.code in (404, 503), error.read()
        return {}
    return {each["id"]: each["state"] for each in shown}


def ask(
    cluster: Cluster, url: str, method: str = "GET", body: dict[str, str] | None = None
) -> dict[str, Any]:
    """A frontend's JSON, asked for with the root key."""
    assert cluster.formed is not None
    key = f"{cluster.formed.root_access_key}:{cluster.formed.root_secret_key}"
    asked = urllib.request.Request(
        url,
        method=method,
        data=json.dumps(body).encode() if body else None,
        headers={"Authorization": f"Basic {base64.b64encode(key.encode()).decode()}"},
    )
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return dict(json.loads(answer.read()))


def test_members_are_shown_the_lead_is_given_away_and_what_cannot_be_is_refused(
    unharmed: LocalStore,
) -> None:
    store = unharmed
    (shown,) = store.ossctl_json("meta", "status")
    assert [each["id"] for each in shown["metanodes"]] == ["meta-1", "meta-2", "meta-3"]
    states = {each["id"]: each["state"] for each in shown["metanodes"]}
    assert states.pop(shown["leader"]) == "leader" and set(states.values()) == {"member"}

    to = next(iter(states))
    (after,) = store.ossctl_json("meta", "transfer-leader", to)
    assert after["leader"] == to and after["term"] == shown["term"] + 1
    store.ossctl("meta", "transfer-leader", to, code=FAILURE)
    (other,) = store.ossctl_json("meta", "transfer-leader")
    assert other["leader"] != to

    store.ossctl("meta", "transfer-leader", "meta-9", code=NOT_FOUND)
    store.ossctl("meta", "add", "meta-9", code=NOT_FOUND)
    store.ossctl("meta", "add", "meta-1", code=FAILURE)
    store.ossctl("meta", "remove", "meta-9", code=NOT_FOUND)
    store.ossctl("meta", "replace", "meta-9", "meta-1", code=NOT_FOUND)
    store.ossctl("meta", "add", "meta-1", "--replaces", "meta-1", code=USAGE)
    rows = store.ossctl_json("audit", "ls")
    assert [row["target"] for row in rows if row["action"] == "meta.transfer-leader"][:1] == [to]
    assert b"leader" in store.ossctl("meta", "status").stdout
    (still,) = store.ossctl_json("meta", "status")
    assert (still["members_index"], len(still["metanodes"])) == (shown["members_index"], 3)
