"""No use of an administrative right without a row of the audit: every handler, every step."""

import inspect
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from frontend.rest.routes import native_routes
from frontend.runs import RUN_MS_MAX
from frontend.tokens.routes import token_routes
from raftmeta.commands import Done
from raftmeta.credentials import AuditListed, AuditRow, ListAudit, RevokeAccessKey
from tests.frontend.harness import BUCKET, random_bytes
from tests.frontend.rest.keys_at_hand import audited, make_key
from tests.frontend.rest.serving import Api, run

METHODS = ("get", "head", "put", "post", "patch", "delete")
ADMINISTERS = re.compile(r"\badminister\(|\bADMIN\b|\baudit_note\(")
"""What in a handler's source says that it uses such a right."""


class Use(NamedTuple):
    """A request that uses an administrative right, and the action its row names."""

    handler: str
    method: str
    path: str
    action: str
    body: Any = None


USES = (
    Use("BucketHandler", "put", "/buckets/new-one", "bucket.create"),
    Use("BucketHandler", "patch", "/buckets/new-one?keep_versions=3", "bucket.change"),
    Use("BucketHandler", "patch", "/buckets/new-one?profile=2%2B1&reencode=1", "bucket.change"),
    Use(
        "ReencodeCancelHandler",
        "post",
        "/v1/maintenance/reencode/cancel?bucket=new-one",
        "reencode.cancel",
    ),
    Use("PauseHandler", "post", "/v1/maintenance/reencode/pause", "reencode.pause"),
    Use("PauseHandler", "post", "/v1/maintenance/reencode/resume", "reencode.resume"),
    Use("BucketHandler", "delete", "/buckets/new-one", "bucket.remove"),
    Use("KeysHandler", "get", "/v1/keys", "key.list"),
    Use(
        "KeysHandler", "post", "/v1/keys", "key.create", {"scopes": ["info"], "access_key": "some"}
    ),
    Use("KeyHandler", "get", "/v1/keys/some", "key.show"),
    Use("KeyHandler", "patch", "/v1/keys/some", "key.change", {"note": "x"}),
    Use("KeyRotationHandler", "post", "/v1/keys/some/rotate", "key.rotate", {}),
    Use("KeyHandler", "delete", "/v1/keys/some", "key.revoke"),
    Use("TokenHandler", "delete", "/v1/tokens/abc", "token.revoke"),
    Use("SigningKeyRotationHandler", "post", "/v1/signing-keys/rotate", "signing-key.rotate", {}),
    Use("SigningKeysHandler", "get", "/v1/signing-keys", "signing-key.list"),
    Use("SystemTokenHandler", "put", "/v1/system-token", "system-token.set", {}),
    Use("SystemTokenHandler", "put", "/server/token", "system-token.set", {"token": "x" * 30}),
    Use("AuditHandler", "get", "/v1/audit", "audit.list"),
    Use("ScanHandler", "post", "/v1/maintenance/scan", "scan"),
    Use("ScanHandler", "post", "/v1/maintenance/scan?repair=1&after=1", "scan"),
    Use("OrphansHandler", "post", "/v1/maintenance/orphans?disk=1", "orphans"),
    Use("OrphansHandler", "post", "/v1/maintenance/orphans?disk=1&dry_run=1", "orphans"),
    Use("OrphansHandler", "post", "/v1/maintenance/orphans?disk=1&after=ab", "orphans"),
    Use("DrainHandler", "post", "/v1/maintenance/drain?node=blob-1&cancel=1", "node.undrain"),
    Use("PauseHandler", "post", "/v1/maintenance/repair/pause", "repair.pause"),
    Use("PauseHandler", "post", "/v1/maintenance/rebalance/resume", "rebalance.resume"),
    Use("ForceHandler", "post", "/v1/maintenance/repair/force", "repair.force"),
    Use("PruneHandler", "post", f"/v1/maintenance/prune?bucket={BUCKET}", "prune"),
    Use("PruneHandler", "post", f"/v1/maintenance/prune?bucket={BUCKET}&after=%00", "prune"),
    Use("PruneHandler", "post", f"/v1/maintenance/prune?bucket={BUCKET}&key=k", "prune"),
    Use("PruneHandler", "post", f"/v1/maintenance/prune?bucket={BUCKET}&key=k&after=z", "prune"),
)
PAST = f"bucket={BUCKET}&{{}}=NOW"
USES += (
    Use("CensusHandler", "post", "/v1/maintenance/census", "census"),
    Use("ScrubHandler", "post", "/v1/maintenance/scrub?action=now", "scrub"),
    Use("RestoreHandler", "post", f"/v1/maintenance/restore?{PAST.format('at')}", "restore"),
    Use("UndeleteHandler", "post", f"/v1/maintenance/undelete?{PAST.format('since')}", "undelete"),
)
METANODES = {("MembersHandler", "post"), ("MemberHandler", "delete"), ("LeadHandler", "post")}
METANODES |= {("BackupHandler", "get"), ("AdoptHandler", "post")}
PROBES = {("BackupHandler", "head")}
"""Whether one may, and nothing else."""
ELSEWHERE = {("FileHandler", "delete"), ("RemoveHandler", "post")} | METANODES | PROBES
"""The first needs a token, tests/frontend/tokens/test_files.py, the second a node without shards,
tests/frontend/rest/test_healing.py, the others real metanodes, tests/cluster/test_membership.py
and test_backup.py."""


async def rows(api: Api) -> list[AuditRow]:
    return list((await api.world.meta.query(ListAudit(limit=1000), AuditListed)).rows)


def administering() -> set[tuple[str, str]]:
    """Every handler's method whose source says that it uses such a right."""
    surface: Any = None
    return {
        (route[1].__name__, method)
        for route in (*native_routes(surface), *token_routes(surface))
        for method in METHODS
        if method in vars(route[1])
        and ADMINISTERS.search(inspect.getsource(vars(route[1])[method]))
    }


def test_every_handler_that_administers_is_asked_here() -> None:
    assert {(use.handler, use.method) for use in USES} | ELSEWHERE == administering()


def test_each_use_leaves_its_row_however_often_it_is_made(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        for n in range(2):
            await api("PUT", f"/buckets/{BUCKET}/objects/k", data=random_bytes(300_000, n))
        listed = await api("GET", f"/buckets/{BUCKET}/versions/k")
        now = listed.json["versions"][0]["modified"]
        for use in (*USES, *USES):
            before = await rows(api)
            more = {} if use.body is None else {"json": use.body}
            answer = await api(use.method.upper(), use.path.replace("NOW", now), **more)
            assert answer.status < 300, (use, answer)
            new = (await rows(api))[len(before) :]
            assert [(row.actor, row.action, row.outcome) for row in new] == [
                ("root", use.action, "done")
            ], use

    run(tmp_path, story)


def test_a_right_that_is_missing_leaves_no_row_and_does_nothing(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        some = await make_key(api, "some", "upload", "download", "info")
        one = await make_key(api, "one", "download")
        for use in USES:
            auth = one if use.handler == "UndeleteHandler" else some  # who uploads may undelete
            more = {} if use.body is None else {"json": use.body}
            answer = await api(use.method.upper(), use.path, auth=auth, **more)
            assert answer.status == 403, use
        assert await rows(api) == []

    run(tmp_path, story)


# --- work in steps -------------------------------------------------------------------------------

PRUNE = f"/v1/maintenance/prune?bucket={BUCKET}&keep=1"


async def step(api: Api, path: str, answer: Any = None, **more: Any) -> Any:
    """The step after the one that answered so."""
    given = "" if answer is None else f"&after={answer['next']}&run={answer['run']}"
    done = await api("POST", path + given, **more)
    assert done.status == 200, done
    return done.json


@pytest.fixture
def short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frontend.flows.prune.KEYS_MAX", 1)
    monkeypatch.setattr("frontend.flows.scan.STRIPES_MAX", 1)


async def fill(api: Api) -> None:
    for key in "abcd":
        for n in range(2):
            body = random_bytes(10_000, ord(key) * 2 + n)
            await api("PUT", f"/buckets/{BUCKET}/objects/{key}", data=body)


@pytest.mark.usefixtures("short_steps")
@pytest.mark.parametrize("path", [PRUNE, "/v1/maintenance/scan?repair=0"])
def test_steps_that_go_on_belong_to_the_first_one_s_row(tmp_path: Path, path: str) -> None:
    async def story(api: Api) -> None:
        await fill(api)
        answer, count = await step(api, path), 1
        while answer["next"] is not None:
            answer, count = await step(api, path, answer), count + 1
        assert count > 3 and answer["run"] is None
        assert len(await audited(api)) == 1

    run(tmp_path, story)


@pytest.mark.usefixtures("short_steps")
@pytest.mark.parametrize("path", [PRUNE, "/v1/maintenance/scan?repair=0"])
def test_a_run_is_good_for_nothing_but_the_step_that_follows(tmp_path: Path, path: str) -> None:
    async def story(api: Api) -> None:
        await fill(api)
        other = await make_key(api, "other", "admin")
        first = await step(api, path)
        count = 1
        is_prune = path == PRUNE
        elsewhere = PRUNE.replace("keep=1", "keep=2") if is_prune else f"{path[:-1]}1"
        forged = first["run"][:-1] + ("0" if first["run"][-1] != "0" else "1")
        later = f"{int(first['run'].split('-')[0], 16) + 1:x}-{first['run'].split('-')[1]}"
        for wrong, answer, more in (
            (path, {**first, "next": "3" if path != PRUNE else "c"}, {}),
            (path, {**first, "run": forged}, {}),
            (path, {**first, "run": later}, {}),
            (path, {**first, "run": ""}, {}),
            (path, {**first, "run": "x" * 5000}, {}),
            (elsewhere, first, {}),
            (path + "&prefix=a" if is_prune else f"{path}&bucket={BUCKET}", first, {}),
            (path, first, {"auth": other}),
        ):
            await step(api, wrong, answer, **more)
            count += 1
            assert len(await audited(api)) == count, (wrong, answer, more)
        await step(api, path, first)
        await step(api, path, first)  # after a lost answer
        assert len(await audited(api)) == count

    run(tmp_path, story)


@pytest.mark.usefixtures("short_steps")
def test_a_run_ends_with_its_day_and_with_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(api: Api) -> None:
        await fill(api)
        auth = await make_key(api, "tidy", "delete")
        first = await step(api, PRUNE, auth=auth)
        await api.world.meta.propose(RevokeAccessKey(access_key="tidy"), Done)
        await make_key(api, "tidy", "delete")
        await step(api, PRUNE, first, auth=auth)
        assert len(await audited(api)) == 2
        begun = await step(api, PRUNE)
        monkeypatch.setattr("frontend.runs.RUN_MS_MAX", 0)
        going = await step(api, PRUNE, begun)
        assert len(await audited(api)) == 4
        monkeypatch.setattr("frontend.runs.RUN_MS_MAX", RUN_MS_MAX)
        assert going["run"] is None or await step(api, PRUNE, going)
        assert len(await audited(api)) == 4

    run(tmp_path, story)


@pytest.mark.usefixtures("short_steps")
def test_a_dry_run_of_pruning_has_no_run_to_go_on_with(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        await fill(api)
        answer = await step(api, PRUNE + "&dry_run=1")
        assert answer["next"] is not None and answer["run"] is None
        assert await audited(api) == []
        await step(api, PRUNE, {**answer, "run": ""})
        assert len(await audited(api)) == 1

    run(tmp_path, story)
