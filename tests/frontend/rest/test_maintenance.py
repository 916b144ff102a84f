"""Maintenance as a client asks for it: steps, cursors, and who may."""

from pathlib import Path

import pytest

from ossd.clock import system_random
from ossd.signing import seal
from raftmeta.commands import Done
from raftmeta.credentials import PutAccessKey
from tests.frontend.harness import BUCKET, CATALOG_KEY, random_bytes
from tests.frontend.rest.keys_at_hand import audited, make_key
from tests.frontend.rest.serving import Api, run


async def put(api: Api, key: str, count: int, bucket: str = BUCKET) -> None:
    for number in range(count):
        path = f"/buckets/{bucket}/objects/{key}"
        assert (await api("PUT", path, data=f"{key}{number}".encode())).status == 200


async def numbers(api: Api, key: str, bucket: str = BUCKET) -> list[int]:
    listed = await api("GET", f"/buckets/{bucket}/versions/{key}")
    return [version["version"] for version in listed.json["versions"]]


async def limited(api: Api, scope: str, bucket: str) -> tuple[str, str]:
    """A key that may do one thing in one bucket."""
    sealed = seal(CATALOG_KEY, b"limited-secret", system_random)
    command = PutAccessKey(
        access_key="limited", secret_sealed=sealed, scopes=(scope,), buckets=(bucket,)
    )
    await api.world.meta.propose(command, Done)
    return "limited", "limited-secret"


def prune_path(**given: object) -> str:
    return "/v1/maintenance/prune?" + "&".join(f"{k}={v}" for k, v in given.items())


def test_a_dry_run_says_what_the_pruning_then_removes(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        await put(api, "a", 7)
        await put(api, "b/c", 6)
        await put(api, "few", 2)
        await api("DELETE", f"/buckets/{BUCKET}/objects/a")
        said = await api("POST", prune_path(bucket=BUCKET, dry_run=1))
        assert (said.json["versions"], said.json["markers"], said.json["bytes"]) == (3, 0, 8)
        assert [(o["key"], o["versions"]) for o in said.json["objects"]] == [("a", 2), ("b/c", 1)]
        assert said.json["visited"] == 3 and said.json["next"] is None
        assert len(await numbers(api, "a")) == 8
        done = await api("POST", prune_path(bucket=BUCKET))
        assert done.json == {**said.json, "dry_run": False, "run": None}
        assert await numbers(api, "a") == [8, 7, 6, 5, 4, 3]
        assert await numbers(api, "b/c") == [6, 5, 4, 3, 2]
        again = await api("POST", prune_path(bucket=BUCKET))
        assert (again.json["versions"], again.json["objects"]) == (0, [])

    run(tmp_path, story)


def test_one_object_or_those_with_a_prefix(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        for key in ("x/1", "x/2", "y"):
            await put(api, key, 3)
        await api("POST", prune_path(bucket=BUCKET, key="x/1", keep=1))
        assert await numbers(api, "x/1") == [3] and len(await numbers(api, "x/2")) == 3
        await api("POST", prune_path(bucket=BUCKET, prefix="x/", keep=2))
        assert await numbers(api, "x/2") == [3, 2] and len(await numbers(api, "y")) == 3
        gone = await api("POST", prune_path(bucket=BUCKET, key="none", keep=1))
        assert (gone.status, gone.json["error"]["code"]) == (404, "NoSuchKey")

    run(tmp_path, story)


def test_steps_go_on_where_the_last_one_stopped(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("frontend.flows.prune.KEYS_MAX", 2)
    monkeypatch.setattr("frontend.flows.prune._COMMANDS_PER_KEY", 1)
    monkeypatch.setattr("raftmeta.catalog.apply_prune.ROWS_MAX", 8)

    async def story(api: Api) -> None:
        for key in "abcde":
            await put(api, key, 6)
        after, removed, steps = "", 0, 0
        while after is not None:
            step = await api("POST", prune_path(bucket=BUCKET, keep=1, after=after))
            removed += step.json["versions"]
            after = step.json["next"]
            steps += 1
            assert steps < 50
        assert removed == 25 and steps > 5
        assert [await numbers(api, key) for key in "abcde"] == [[6]] * 5

    run(tmp_path, story)


def test_who_prunes_is_audited_once_and_who_only_looks_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frontend.flows.prune.KEYS_MAX", 1)

    async def story(api: Api) -> None:
        for key in ("a", "b"):
            await put(api, key, 3)
        await api("POST", prune_path(bucket=BUCKET, keep=1, dry_run=1))
        await api("POST", prune_path(bucket="absent"))
        await api("POST", prune_path(bucket=BUCKET, keep=10**9))
        assert await audited(api) == []
        auth = await make_key(api, "tidy", "delete", buckets=(BUCKET,))
        after, more, steps = "", "", 0
        while after is not None:
            path = prune_path(bucket=BUCKET, keep=2, after=after, run=more)
            step = await api("POST", path, auth=auth)
            after, more, steps = step.json["next"], step.json["run"], steps + 1
        await api("POST", prune_path(bucket=BUCKET, keep=1, key="b", after="x"))
        rows = [(row.actor, row.action, row.target, row.detail) for row in await audited(api)]
        assert steps > 1 and rows == [
            ("tidy", "prune", f"{BUCKET}/", "keep=2"),
            ("root", "prune", f"{BUCKET}/b", "keep=1"),
        ]
        assert await numbers(api, "a") == [3, 2] and await numbers(api, "b") == [3]

    run(tmp_path, story)


def test_bad_requests_to_prune_remove_nothing(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        await put(api, "k", 7)
        for path, status, code in (
            (prune_path(bucket=BUCKET, keep=0), 400, "InvalidArgument"),
            (prune_path(bucket=BUCKET, keep="x"), 400, "InvalidArgument"),
            (prune_path(bucket=BUCKET, keep=-1), 400, "InvalidArgument"),
            (prune_path(bucket=BUCKET, keep=10**9), 400, "InvalidArgument"),
            (prune_path(bucket="No_Bucket"), 400, "InvalidName"),
            (prune_path(bucket="absent"), 404, "NoSuchBucket"),
        ):
            answer = await api("POST", path)
            assert (answer.status, answer.json["error"]["code"]) == (status, code), path
        assert (await api("GET", prune_path(bucket=BUCKET))).status == 405
        for scope, bucket, status in (("download", BUCKET, 403), ("delete", "other-one", 403)):
            auth = await limited(api, scope, bucket)
            assert (await api("POST", prune_path(bucket=BUCKET), auth=auth)).status == status
        assert len(await numbers(api, "k")) == 7
        auth = await limited(api, "delete", BUCKET)
        assert (await api("POST", prune_path(bucket=BUCKET), auth=auth)).json["versions"] == 2

    run(tmp_path, story)


def test_a_scan_tells_what_it_found_and_mends_it(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        path = f"/buckets/{BUCKET}/objects/k"
        assert (await api("PUT", path, data=random_bytes(300_000))).status == 200
        blobs = api.world.blobs
        for place in [place for place in blobs.places() if place[1].index < 3]:
            blobs.remove(place)
        lost = (await api("POST", "/v1/maintenance/scan?repair=1")).json
        assert lost["shards"] == {
            "checked": 6, "good": 3, "missing": 3, "corrupt": 0, "unreachable": 0,
            "repaired": 0, "confirmed": 0,
        }  # fmt: skip
        (unreadable,) = lost["unreadable"]
        assert unreadable["objects"] == [{"bucket": BUCKET, "key": "k", "version": 1}]
        assert (unreadable["good"], unreadable["needed"]) == (3, 4)

        await api("PUT", path, data=random_bytes(300_000, 1))
        last = max(place[1].stripe for place in blobs.places())
        blobs.remove(next(p for p in blobs.places() if p[1].stripe == last and p[1].index == 5))
        found = (await api("POST", f"/v1/maintenance/scan?bucket={BUCKET}&after=1")).json
        (shard,) = found["damaged"]
        assert (shard["found"], shard["outcome"], shard["index"]) == ("missing", "not tried", 5)
        assert shard["node"].startswith("blob-") and shard["stripe"] == last.hex()
        assert (found["row"], found["last_row"], found["next"]) == (2, 2, None)
        mended = (await api("POST", "/v1/maintenance/scan?after=1&repair=1")).json
        assert mended["shards"]["repaired"] == 1 and mended["unreadable"] == []
        clean = (await api("POST", "/v1/maintenance/scan?after=1")).json
        assert (clean["damaged"], clean["shards"]["good"]) == ([], 6)

    run(tmp_path, story)


def test_a_scan_tells_of_bodies_in_the_catalog_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frontend.flows.scan_inline.PAGE_MAX", 2)
    monkeypatch.setattr("frontend.flows.scan.STEP_S_MAX", -1.0)

    async def story(api: Api) -> None:
        await put(api, "k", 5)
        await put(api, "other", 2)
        writer = api.world.catalog._writer
        writer.execute(
            "UPDATE inline_bodies SET data = CAST(x'78' || data AS BLOB) WHERE version ="
            " (SELECT id FROM versions WHERE number = 4)"
        )
        writer.commit()
        after, more, steps = "", "", []
        while after is not None:
            path = f"/v1/maintenance/scan?bucket={BUCKET}&prefix=k&after={after}&run={more}"
            steps.append((await api("POST", path)).json)
            after, more = steps[-1]["next"], steps[-1]["run"]
        assert sum(step["inline"]["checked"] for step in steps) == 5
        assert sum(step["inline"]["bytes"] for step in steps) == 11
        corrupt = [each for step in steps for each in step["inline"]["corrupt"]]
        assert corrupt == [{"bucket": BUCKET, "key": "k", "version": 4}]
        assert steps[0]["next"].startswith("inline-") and len(steps) >= 3
        assert len(await audited(api)) == 1

    run(tmp_path, story)


def test_a_sweep_is_told_page_by_page(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        path = f"/buckets/{BUCKET}/objects/k"
        await api("PUT", path, data=random_bytes(300_000))
        answer = (await api("POST", "/v1/maintenance/orphans?disk=1&dry_run=1")).json
        assert (answer["node"], answer["disk"], answer["dry_run"]) == ("blob-1", 1, True)
        assert answer["examined"] == answer["kept"] == {"shards": 1, "bytes": 75_000}
        assert answer["removed"] == {"shards": 0, "bytes": 0} and answer["next"] == "ab"
        end = (await api("POST", "/v1/maintenance/orphans?disk=1&after=ab")).json
        assert end["next"] is None
        assert [(s[1], s[2]) for s in api.world.blobs.sweeps] == [("", True), ("ab", False)]

    run(tmp_path, story)


def test_only_who_administers_the_cluster_scans_and_sweeps(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        for scope in ("delete", "admin"):
            auth = await limited(api, scope, BUCKET)
            for path in ("/v1/maintenance/scan", "/v1/maintenance/orphans?disk=1"):
                assert (await api("POST", path, auth=auth)).status == 403, (scope, path)
        for path, status in (
            ("/v1/maintenance/scan?after=x", 400),
            ("/v1/maintenance/scan?after=inline-", 400),
            ("/v1/maintenance/scan?after=inline-x", 400),
            ("/v1/maintenance/scan?after=inline-" + "9" * 29, 200),
            ("/v1/maintenance/scan?after=%EF%BC%91", 400),
            ("/v1/maintenance/scan?after=" + "9" * 29, 200),
            ("/v1/maintenance/orphans?disk=" + "9" * 29, 404),
            (prune_path(bucket=BUCKET, keep="9" * 29), 400),
            ("/v1/maintenance/scan?bucket=No", 400),
            ("/v1/maintenance/scan?prefix=a", 400),
            ("/v1/maintenance/scan?bucket=absent", 404),
            ("/v1/maintenance/orphans", 400),
            ("/v1/maintenance/orphans?disk=x", 400),
            ("/v1/maintenance/orphans?disk=77", 404),
        ):
            assert (await api("POST", path)).status == status, path
        assert (await api("GET", "/v1/maintenance/scan")).status == 405
        empty = (await api("POST", "/v1/maintenance/scan")).json
        assert (empty["stripes"], empty["next"], empty["row"]) == (0, None, 0)

    run(tmp_path, story)


def test_a_bucket_s_setting_is_changed_and_shown(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        path = f"/buckets/{BUCKET}"
        assert (await api("GET", path)).json["keep_versions"] == 0
        changed = await api("PATCH", path + "?keep_versions=3")
        assert (changed.status, changed.json["keep_versions"]) == (200, 3)
        assert (await api("GET", "/buckets")).json["buckets"][0]["keep_versions"] == 3
        for wrong in (
            "",
            "?keep_versions=",
            "?keep_versions=x",
            "?keep_versions=100000",
            "?keep_versions=" + "9" * 29,
        ):
            assert (await api("PATCH", path + wrong)).status == 400, wrong
        auth = await limited(api, "delete", BUCKET)
        assert (await api("PATCH", path + "?keep_versions=1", auth=auth)).status == 403
        assert (await api("GET", path)).json["keep_versions"] == 3
        assert (await api("PATCH", "/buckets/absent?keep_versions=1")).status == 404

    run(tmp_path, story)


def test_what_goes_by_time_is_set_and_shown(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        path = f"/buckets/{BUCKET}"
        names = ("expire_after_s", "expire_noncurrent_after_s", "abort_uploads_after_s")
        shown = (await api("GET", path)).json
        assert [shown[name] for name in names] == [0, 0, 0]
        for nth, name in enumerate(names, start=60):
            changed = await api("PATCH", f"{path}?{name}={nth}")
            assert (changed.status, changed.json[name]) == (200, nth)
        shown = (await api("GET", path)).json
        assert [shown[name] for name in names] == [60, 61, 62]
        off = await api("PATCH", path + "?expire_after_s=0&abort_uploads_after_s=0")
        assert [off.json[name] for name in names] == [0, 61, 0]
        for wrong in ("x", "-1", "9" * 12, "9" * 29):
            for name in names:
                assert (await api("PATCH", f"{path}?{name}={wrong}")).status == 400, (name, wrong)
        assert (await api("PATCH", f"{path}?abort_uploads_after_s=34560000")).status == 400
        assert (await api("PATCH", "/buckets/absent?expire_after_s=1")).status == 404

    run(tmp_path, story)
