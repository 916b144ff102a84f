"""Access keys over HTTP: made, shown, changed, rotated, revoked, and audited."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.frontend.rest.keys_at_hand import audited, make_key
from tests.frontend.rest.serving import Answer, Api, run


async def create(api: Api, **wanted: Any) -> Answer:
    return await api("POST", "/v1/keys", json={"scopes": ["download"], **wanted})


def test_a_key_is_made_and_its_secret_shown_once(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        await api("PUT", "/objects/k", data=b"x")
        made = await create(api, note="for tests")
        assert (made.status, made.headers["Cache-Control"]) == (201, "no-store")
        own = (made.json["access_key"], made.json["secret_key"])
        assert len(own[0]) == 16 and len(own[1]) == 40
        assert made.headers["Location"] == f"/v1/keys/{own[0]}"
        assert (await api("GET", "/objects/k", auth=own)).status == 200
        assert (await api("DELETE", "/objects/k", auth=own)).status == 403
        shown = (await api("GET", f"/v1/keys/{own[0]}")).json
        assert shown == {k: v for k, v in made.json.items() if k != "secret_key"}
        assert (shown["note"], shown["expires_at"], shown["disabled"]) == ("for tests", None, False)
        listed = await api("GET", "/v1/keys")
        assert [key["access_key"] for key in listed.json["keys"]] == sorted([own[0], "root"])
        assert own[1].encode() not in listed.body

    run(tmp_path, story)


def test_id_secret_limits_and_expiry_may_be_given(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        expires_at = (datetime.now(UTC) + timedelta(days=3)).isoformat(timespec="milliseconds")
        made = await create(
            api,
            access_key="my-key.1",
            secret_key="0123456789abcdef",
            buckets=["objects"],
            prefixes=["mine/"],
            expires_at=expires_at,
        )
        assert made.status == 201
        assert datetime.fromisoformat(made.json["expires_at"]) == datetime.fromisoformat(expires_at)
        own = ("my-key.1", "0123456789abcdef")
        assert (await api("GET", "/objects/mine/k", auth=own)).status == 404
        assert (await api("GET", "/objects/other", auth=own)).status == 403
        again = await create(api, access_key="my-key.1")
        assert (again.status, again.json["error"]["code"]) == (409, "AccessKeyExists")

    run(tmp_path, story)


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ({"scopes": []}, "InvalidArgument"),
        ({"scopes": ["fly"]}, "InvalidArgument"),
        ({"scopes": "download"}, "MalformedBody"),
        ({"unknown": 1}, "MalformedBody"),
        ({"access_key": "a"}, "InvalidArgument"),
        ({"access_key": "a:b"}, "InvalidArgument"),
        ({"access_key": "system"}, "InvalidArgument"),
        ({"secret_key": "short"}, "InvalidArgument"),
        ({"secret_key": "blank in the middle"}, "InvalidArgument"),
        ({"buckets": ["NO"]}, "InvalidName"),
        ({"prefixes": [""]}, "InvalidArgument"),
        ({"prefixes": ["fine", "a\0b"]}, "InvalidArgument"),
        ({"expires_at": "tomorrow"}, "InvalidArgument"),
        ({"expires_at": "2001-01-01"}, "InvalidArgument"),
        ({"expires_at": "9999-12-31T23:59:59-23:59"}, "InvalidArgument"),
        ({"expires_s": 0}, "InvalidArgument"),
        ({"expires_s": 10**17}, "MalformedBody"),
        ({"expires_s": 10**12}, "InvalidArgument"),
        ({"expires_s": 10, "expires_at": "2101-01-01"}, "InvalidArgument"),
        ({"note": "x" * 201}, "InvalidArgument"),
    ],
)
def test_what_makes_no_key_is_refused(tmp_path: Path, wanted: dict[str, Any], code: str) -> None:
    async def story(api: Api) -> None:
        answer = await create(api, **wanted)
        assert (answer.status, answer.json["error"]["code"]) == (400, code)
        assert len((await api("GET", "/v1/keys")).json["keys"]) == 1

    run(tmp_path, story)


def test_a_body_that_is_no_json_or_too_long_is_refused(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        for body, code in ((b"{", 400), (b"[]", 400), (b"\xff", 400), (b" " * 70_000, 413)):
            assert (await api("POST", "/v1/keys", data=body)).status == code

    run(tmp_path, story)


def test_a_change_counts_at_once_and_keeps_the_rest(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        await api("PUT", "/objects/k", data=b"x")
        own = await make_key(api, "own", "download", "info", note="kept")
        path = "/v1/keys/own"
        changed = await api("PATCH", path, json={"prefixes": ["p/"], "expires_s": 3600})
        assert (changed.status, changed.json["note"]) == (200, "kept")
        assert (await api("GET", "/objects/k", auth=own)).status == 403
        changed = await api("PATCH", path, json={"prefixes": [], "expires_at": None})
        assert (changed.json["prefixes"], changed.json["expires_at"]) == ([], None)
        assert (await api("GET", "/objects/k", auth=own)).status == 200
        await api("PATCH", path, json={"disabled": True})
        assert (await api("GET", "/objects/k", auth=own)).status == 401
        await api("PATCH", path, json={"disabled": False})
        assert (await api("GET", "/objects/k", auth=own)).status == 200
        for body in (
            {"scopes": []},
            {"expires_s": 1, "expires_at": None},
            {"secret_key": "x"},
            {"prefixes": ["\0"]},
        ):
            assert (await api("PATCH", path, json=body)).status == 400
        assert (await api("PATCH", "/v1/keys/nobody", json={})).status == 404

    run(tmp_path, story)


def test_rotation_lets_the_former_secret_work_for_the_overlap(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        former = await make_key(api, "own", "info")
        rotated = await api("POST", "/v1/keys/own/rotate", json={"overlap_s": 60})
        newer = ("own", rotated.json["secret_key"])
        assert rotated.json["previous_secret_until"] is not None
        for auth in (former, newer):
            assert (await api("GET", "/buckets", auth=auth)).status == 200
        last = (await api("POST", "/v1/keys/own/rotate", json={"overlap_s": 0})).json
        assert last["previous_secret_until"] is None
        for auth in (former, newer):
            assert (await api("GET", "/buckets", auth=auth)).status == 401
        assert (await api("GET", "/buckets", auth=("own", last["secret_key"]))).status == 200
        assert (await api("POST", "/v1/keys/own/rotate")).status == 200  # a day by default
        for overlap_s in (-1, 10**9, 10**17):
            answer = await api("POST", "/v1/keys/own/rotate", json={"overlap_s": overlap_s})
            assert answer.status == 400
        assert (await api("POST", "/v1/keys/nobody/rotate")).status == 404

    run(tmp_path, story)


def test_an_id_of_any_form_is_decoded_once(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        for name, path in (("odd/key", "odd%2Fkey"), ("a%41b", "a%2541b"), ("ü ", "%C3%BC%20")):
            await make_key(api, name, "info")
            shown = await api("GET", f"/v1/keys/{path}")
            assert (shown.status, shown.json["access_key"]) == (200, name)
            assert (await api("DELETE", f"/v1/keys/{path}")).status == 204
        assert (await api("GET", "/v1/keys/%ff")).status == 400

    run(tmp_path, story)


def test_a_revoked_key_is_gone(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        own = await make_key(api, "own", "info")
        assert (await api("GET", "/buckets", auth=own)).status == 200
        assert (await api("DELETE", "/v1/keys/own")).status == 204
        assert (await api("GET", "/buckets", auth=own)).status == 401
        for method in ("GET", "DELETE"):
            answer = await api(method, "/v1/keys/own")
            assert (answer.status, answer.json["error"]["code"]) == (404, "NoSuchAccessKey")
        answer = await api("DELETE", "/v1/keys/root")
        assert (answer.status, answer.json["error"]["code"]) == (409, "LastAdminKey")
        assert (await api("GET", "/buckets")).status == 200

    run(tmp_path, story)


ADMINISTRATION = [
    ("GET", "/v1/keys", None),
    ("POST", "/v1/keys", {"scopes": ["info"]}),
    ("GET", "/v1/keys/root", None),
    ("PATCH", "/v1/keys/root", {}),
    ("DELETE", "/v1/keys/root", None),
    ("POST", "/v1/keys/root/rotate", {}),
    ("GET", "/v1/signing-keys", None),
    ("POST", "/v1/signing-keys/rotate", {}),
    ("PUT", "/v1/system-token", {}),
    ("DELETE", "/v1/tokens/j", None),
    ("GET", "/v1/audit", None),
]


@pytest.mark.parametrize(("method", "path", "body"), ADMINISTRATION)
def test_only_an_admin_without_limits_administers(
    tmp_path: Path, method: str, path: str, body: Any
) -> None:
    async def story(api: Api) -> None:
        powerless = [
            await make_key(api, "reader", "upload", "download", "info", "delete"),
            await make_key(api, "bucketed", "admin", buckets=("objects",)),
            await make_key(api, "prefixed", "admin", prefixes=("a",)),
        ]
        for auth in powerless:
            assert (await api(method, path, auth=auth, json=body)).status == 403
        assert (await api(method, path, auth=None, json=body)).status == 401
        assert await audited(api) == []

    run(tmp_path, story)


def test_each_use_is_audited_and_no_secret_is(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        made = await create(api, access_key="own", prefixes=["p/"], expires_s=60)
        await create(api, access_key="own")
        await api("GET", "/v1/keys")
        await api("GET", "/v1/keys/own")
        await api("PATCH", "/v1/keys/own", json={"disabled": True, "expires_at": None})
        rotated = await api("POST", "/v1/keys/own/rotate", json={"overlap_s": 5})
        await api("DELETE", "/v1/keys/own")
        rows = await audited(api)
        assert [(row.action, row.target, row.outcome) for row in rows] == [
            ("key.create", "own", "done"),
            ("key.create", "own", "AccessKeyExists"),
            ("key.list", "", "done"),
            ("key.show", "own", "done"),
            ("key.change", "own", "done"),
            ("key.rotate", "own", "done"),
            ("key.revoke", "own", "done"),
        ]
        assert rows[0].detail == '{"scopes":["download"],"prefixes":["p/"],"expires_s":60}'
        assert rows[4].detail == '{"expires_at":null,"disabled":true}'
        assert rows[5].detail == "overlap_s=5"
        for secret in (made.json["secret_key"], rotated.json["secret_key"]):
            assert secret not in repr(rows)

    run(tmp_path, story)
