"""The past over HTTP: listings and objects of a time, restoring, undeleting, and who may."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.frontend.harness import BUCKET
from tests.frontend.rest.keys_at_hand import audited, make_key
from tests.frontend.rest.serving import Answer, Api, run

OBJECTS = f"/buckets/{BUCKET}/objects"


async def put(api: Api, key: str, body: bytes) -> str:
    """Store it; answers the time of the version, as ISO 8601."""
    stored = await api("PUT", f"{OBJECTS}/{key}", data=body)
    assert stored.status == 200
    listed = await api("GET", f"/buckets/{BUCKET}/versions/{key}")
    return str(listed.json["versions"][0]["modified"])


async def delete(api: Api, key: str) -> str:
    assert (await api("DELETE", f"{OBJECTS}/{key}")).status == 204
    listed = await api("GET", f"/buckets/{BUCKET}/versions/{key}")
    return str(listed.json["versions"][0]["modified"])


def step(verb: str, **given: object) -> str:
    words = {"bucket": BUCKET, **given}
    return f"/v1/maintenance/{verb}?" + "&".join(
        f"{k}={quote(str(v), safe='')}" for k, v in words.items()
    )


async def keys_at(api: Api, at: str, **more: object) -> tuple[list[str], list[Any]]:
    words = "".join(f"&{k}={quote(str(v), safe='')}" for k, v in more.items())
    listed = await api("GET", f"{OBJECTS}?at={at}{words}")
    assert listed.status == 200
    return [entry["key"] for entry in listed.json["objects"]], listed.json["gone"]


def failed(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["error"]["code"]


def test_an_object_and_a_listing_of_a_time(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        first = await put(api, "a", b"one")
        second = await put(api, "a", b"two" * 10_000)
        other = await put(api, "b/c", b"later")
        gone = await delete(api, "a")
        for at, expected in ((first, b"one"), (second, b"two" * 10_000), (other, b"two" * 10_000)):
            got = await api("GET", f"{OBJECTS}/a?at={at}")
            assert (got.status, got.body) == (200, expected)
        head = await api("HEAD", f"{OBJECTS}/a?at={second}")
        assert (head.status, head.headers["X-Version"]) == (200, "2")
        part = await api("GET", f"{OBJECTS}/a?at={second}", headers={"Range": "bytes=3-5"})
        assert (part.status, part.body) == (206, b"two")
        missing = await api("GET", f"{OBJECTS}/a?at={gone}")
        assert failed(missing) == (404, "NoSuchKey")
        assert (await keys_at(api, second))[0] == ["a"]
        assert (await keys_at(api, gone))[0] == ["b/c"]
        folders = await api("GET", f"{OBJECTS}?at={other}&delimiter=/")
        assert (folders.json["prefixes"], folders.json["gone"]) == (["b/"], [])

    run(tmp_path, story)


def test_pages_of_a_listing_go_on_also_where_nothing_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raftmeta.catalog.query_past.ROWS_READ_MAX", 1)

    async def story(api: Api) -> None:
        at = await put(api, "d/file", b"x")
        for key in ("a", "b", "d/"):
            await put(api, key, b"later")
        after, prefixes, pages = "", [], 0
        while after is not None:
            page = await api("GET", f"{OBJECTS}?at={at}&delimiter=/&after={quote(after, safe='')}")
            prefixes += page.json["prefixes"]
            after, pages = page.json["next"], pages + 1
        assert (prefixes, pages) == (["d/"], 4)

    run(tmp_path, story)


def test_what_was_removed_since_is_said_so(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        first = await put(api, "a", b"one")
        await put(api, "a", b"two")
        await api("POST", step("prune", keep=1))
        got = await api("GET", f"{OBJECTS}/a?at={first}")
        assert failed(got) == (404, "NoSuchVersion")
        message = got.json["error"]["message"]
        assert "Version 1" in message and "pruned" in message and first in message
        assert await keys_at(api, first) == ([], [{"key": "a", "version": 1, "was": "removed"}])
        done = await api("POST", step("restore", at=first))
        assert (done.json["removed"], done.json["restored"]) == (1, 0)
        assert (await api("GET", f"{OBJECTS}/a")).body == b"two"

    run(tmp_path, story)


@pytest.mark.parametrize(
    ("at", "says"),
    [
        ("yesterday", "is no time"),
        ("", "is no time"),
        ("20260301", "is no time"),
        ("1772366400000", "is no time"),
        ("2026-02-30", "is no time"),
        ("2999-01-01", "lies in the future"),
    ],
)
def test_times_that_make_no_sense_are_refused(tmp_path: Path, at: str, says: str) -> None:
    async def story(api: Api) -> None:
        await put(api, "a", b"x")
        for method, path in (
            ("GET", f"{OBJECTS}?at={at}"),
            ("GET", f"{OBJECTS}/a?at={at}"),
            ("DELETE", f"{OBJECTS}/a?at={at}"),
            ("POST", step("restore", at=at)),
            ("POST", step("undelete", since=at)),
        ):
            answer = await api(method, path)
            assert failed(answer) == (400, "InvalidArgument"), path
            assert says in answer.json["error"]["message"]
        assert (await api("GET", f"{OBJECTS}/a")).body == b"x"

    run(tmp_path, story)


def test_contradictions_are_refused_and_change_nothing(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        at = await put(api, "a", b"x")
        for method, path in (
            ("GET", f"{OBJECTS}/a?at={at}&version=1"),
            ("DELETE", f"{OBJECTS}/a?at={at}"),
            ("POST", f"{OBJECTS}/a?undelete=1&at={at}"),
            ("POST", step("restore")),
            ("POST", step("undelete")),
            ("POST", step("restore", at=at, after="a")),
            ("POST", step("restore", at=at, bucket="no_name")),
        ):
            assert (await api(method, path)).status == 400, path
        assert (await api("POST", step("restore", at=at, bucket="none"))).status == 404
        listed = await api("GET", f"/buckets/{BUCKET}/versions")
        assert len(listed.json["versions"]) == 1

    run(tmp_path, story)


def test_a_time_may_be_unix_seconds_or_have_another_zone(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        await put(api, "a", b"x")
        for at in ("1000000000", "1000000000.5", "2001-09-09T03:46:40%2B02:00", "2001-09-09"):
            assert await keys_at(api, at) == ([], [])
        listed = await api("GET", "/objects?at=2001-09-09")
        assert listed.json == {"objects": [], "prefixes": [], "gone": [], "next": None}

    run(tmp_path, story)


async def changed_since(api: Api) -> str:
    """Objects under p/ that were overwritten, deleted and made since the time it answers."""
    await put(api, "p/kept", b"same")
    await put(api, "p/overwritten", b"good" * 5_000)
    at = await put(api, "p/deleted", b"here")
    await put(api, "p/overwritten", b"bad")
    await delete(api, "p/deleted")
    await put(api, "p/made", b"new")
    await put(api, "q", b"elsewhere")
    return at


def test_a_dry_run_tells_what_the_restore_then_does(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        at = await changed_since(api)
        said = await api("POST", step("restore", prefix="p/", at=at, dry_run=1))
        assert (said.json["restored"], said.json["hidden"], said.json["visited"]) == (2, 1, 4)
        assert await audited(api, action="restore") == []
        assert (await api("GET", f"{OBJECTS}/p/made")).status == 200
        done = await api("POST", step("restore", prefix="p/", at=at))
        same = {"dry_run": False, "began": said.json["began"]}
        assert {**done.json, **same} == {**said.json, **same}
        assert (await api("GET", f"{OBJECTS}/p/overwritten")).body == b"good" * 5_000
        assert (await api("GET", f"{OBJECTS}/p/deleted")).body == b"here"
        assert (await api("GET", f"{OBJECTS}/p/made")).status == 404
        assert (await api("GET", f"{OBJECTS}/p/made?version=1")).body == b"new"
        assert (await api("GET", f"{OBJECTS}/q")).body == b"elsewhere"
        entries = await audited(api, action="restore")
        assert [e.target for e in entries] == [f"{BUCKET}/p/"]
        # Asked for again after a lost answer: the same is told, nothing is made twice.
        versions = await api("GET", f"/buckets/{BUCKET}/versions")
        again = await api("POST", step("restore", prefix="p/", at=at, began=done.json["began"]))
        assert again.json == done.json
        assert (await api("GET", f"/buckets/{BUCKET}/versions")).json == versions.json
        anew = await api("POST", step("restore", prefix="p/", at=at))
        assert anew.json["objects"] == []

    run(tmp_path, story)


def test_steps_go_on_where_the_last_one_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frontend.flows.timetravel.CHANGES_MAX", 3)

    async def story(api: Api) -> None:
        for number in range(8):
            at = await put(api, f"k{number}", b"good")
        for number in range(8):
            await put(api, f"k{number}", b"bad")
        first = await api("POST", step("restore", at=at))
        began, after = first.json["began"], first.json["next"]
        assert first.json["restored"] == 3 and after == "k2"
        await put(api, "k5", b"written meanwhile")
        counts = [first.json]
        while after is not None:
            run = counts[-1]["run"]
            done = await api("POST", step("restore", at=at, began=began, after=after, run=run))
            counts.append(done.json)
            after = done.json["next"]
        assert sum(each["restored"] for each in counts) == 7
        assert sum(each["changed"] for each in counts) == 1
        assert sum(each["visited"] for each in counts) == 8
        assert (await api("GET", f"{OBJECTS}/k5")).body == b"written meanwhile"
        assert (await api("GET", f"{OBJECTS}/k7")).body == b"good"
        assert len(await audited(api, action="restore")) == 1
        await api("POST", step("restore", at=at, began=began, after="k2"))  # no run: its own row
        assert len(await audited(api, action="restore")) == 2

    run(tmp_path, story)


def test_a_step_that_a_quota_ends_can_be_sent_again_once_there_is_room(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        for key in ("a", "b", "c"):
            at = await put(api, key, b"good")
        for key in ("a", "b", "c"):
            await put(api, key, b"bad")
        said = await api("POST", step("restore", at=at, dry_run=1))
        again = step("restore", at=at, began=said.json["began"])
        assert (await api("PATCH", f"/buckets/{BUCKET}?quota_versions=7")).status == 200
        assert failed(await api("POST", again)) == (403, "QuotaExceeded")
        listed = await api("GET", f"/buckets/{BUCKET}/versions")
        assert len(listed.json["versions"]) == 7
        assert (await api("PATCH", f"/buckets/{BUCKET}?quota_versions=9")).status == 200
        assert (await api("POST", again)).json["restored"] == 3
        for key in ("a", "b", "c"):
            assert (await api("GET", f"{OBJECTS}/{key}")).body == b"good"

    run(tmp_path, story)


def test_everything_that_was_deleted_since_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frontend.flows.timetravel._MARKERS_AT_ONCE", 2)

    async def story(api: Api) -> None:
        for key in ("p/early", "p/a", "p/b", "p/there", "q"):
            await put(api, key, key.encode())
        await delete(api, "p/early")
        since = await put(api, "p/a", b"newest")
        for key in ("p/a", "q", *["p/b"] * 5):
            await delete(api, key)
        said = await api("POST", step("undelete", prefix="p/", since=since, dry_run=1))
        assert (said.json["restored"], said.json["visited"]) == (2, 4)
        assert await audited(api, action="undelete") == []
        done = await api("POST", step("undelete", prefix="p/", since=since))
        assert done.json["objects"] == [
            {"key": "p/a", "outcome": "restored", "version": 2},
            {"key": "p/b", "outcome": "restored", "version": 1},
        ]
        assert (await api("GET", f"{OBJECTS}/p/a")).body == b"newest"
        assert (await api("GET", f"{OBJECTS}/p/b")).body == b"p/b"
        for key in ("p/early", "q"):
            assert (await api("GET", f"{OBJECTS}/{key}")).status == 404
        assert len(await audited(api, action="undelete")) == 1
        again = await api(
            "POST", step("undelete", prefix="p/", since=since, began=said.json["began"])
        )
        assert again.json["restored"] == 2

    run(tmp_path, story)


def test_a_key_needs_every_right_it_takes_below_the_prefix(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        at = await changed_since(api)
        every = ["upload", "delete", "info"]
        for missing in every:
            rights = [scope for scope in every if scope != missing]
            key = await make_key(api, f"no-{missing}", *rights, prefixes=("p/",))
            for path in (
                step("restore", at=at, prefix="p/"),
                *([step("undelete", since=at, prefix="p/")] if missing != "delete" else []),
            ):
                assert (await api("POST", path, auth=key)).status == 403
        key = await make_key(api, "all", *every, prefixes=("p/",))
        for prefix in ("", "p", "q"):
            for verb, name in (("restore", "at"), ("undelete", "since")):
                path = step(verb, prefix=prefix, **{name: at})
                assert (await api("POST", path, auth=key)).status == 403
        assert (await api("POST", step("restore", at=at, prefix="p/"), auth=key)).status == 200
        assert (await api("POST", step("restore", at=at), auth=None)).status == 401

    run(tmp_path, story)
