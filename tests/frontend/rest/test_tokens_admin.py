"""Tokens, their keys, the system token and the audit over HTTP."""

from pathlib import Path

import pytest

from frontend.tickets import DOWNLOAD, UPLOAD
from osscore.errors import RevokedToken, Unauthenticated
from raftmeta.access import Access
from tests.frontend.harness import ROOT, SECRETS
from tests.frontend.rest.keys_at_hand import audited, make_key
from tests.frontend.rest.serving import Api, run

HELLO = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"


def test_a_token_is_made_by_who_has_the_right_itself(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        uploader = await make_key(api, "up", "upload", buckets=("files",))
        body = {"type": "upload", "hash": HELLO, "ttl_s": 60, "max_size": 11}
        made = await api("POST", "/v1/tokens", auth=uploader, json=body)
        assert made.status == 201
        ticket = await api.tickets.check(made.json["token"], UPLOAD)
        assert (ticket.jti, ticket.max_size_bytes) == (made.json["jti"], 11)
        for kind in ("download", "both"):
            denied = await api("POST", "/v1/tokens", auth=uploader, json={**body, "type": kind})
            assert denied.status == 403
        elsewhere = await make_key(api, "else", "upload", buckets=("objects",))
        assert (await api("POST", "/v1/tokens", auth=elsewhere, json=body)).status == 403
        upper = {**body, "hash": HELLO.upper()}
        prefixed = await make_key(api, "b9", "upload", buckets=("files",), prefixes=(HELLO[:2],))
        for auth in (uploader, prefixed):
            made = await api("POST", "/v1/tokens", auth=auth, json=upper)
            assert (await api.tickets.check(made.json["token"], UPLOAD)).sha256.hex() == HELLO
        both = await api("POST", "/v1/tokens", json={**body, "type": "both"})
        await api.tickets.check(both.json["token"], UPLOAD | DOWNLOAD)

    run(tmp_path, story)


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "delete"},
        {"hash": "x"},
        {"ttl_s": 0},
        {"ttl_s": 10**10},
        {"ttl_s": "60"},
        {"max_size": -1},
        {"max_size": 1 << 63},
        {"more": 1},
    ],
)
def test_what_makes_no_token_is_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    async def story(api: Api) -> None:
        body = {"type": "upload", "hash": HELLO, **wrong}
        assert (await api("POST", "/v1/tokens", json=body)).status == 400

    run(tmp_path, story)


def test_tokens_are_revoked_by_id_and_by_key(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        body = {"type": "download", "hash": HELLO}
        one, two = [(await api("POST", "/v1/tokens", json=body)).json for _ in range(2)]
        assert (await api("DELETE", f"/v1/tokens/{one['jti']}")).status == 204
        with pytest.raises(RevokedToken):
            await api.tickets.check(one["token"], DOWNLOAD)
        kept = await api("POST", "/v1/signing-keys/rotate", json={"overlap_s": 60})
        await api.tickets.check(two["token"], DOWNLOAD)
        keys = (await api("GET", "/v1/signing-keys")).json["keys"]
        assert [key["retires_at"] is None for key in keys] == [True, False]
        assert keys[0]["kid"] == kept.json["kid"]
        await api("POST", "/v1/signing-keys/rotate", json={"overlap_s": 0})
        with pytest.raises(RevokedToken):
            await api.tickets.check(two["token"], DOWNLOAD)
        assert len((await api("GET", "/v1/signing-keys")).json["keys"]) == 1
        bad = await api("POST", "/v1/signing-keys/rotate", json={"overlap_s": 10**9})
        assert bad.status == 400
        assert (await api("DELETE", "/v1/tokens/a%20b")).status == 400
        assert [(row.action, row.outcome) for row in await audited(api)] == [
            ("token.revoke", "done"),
            ("signing-key.rotate", "done"),
            ("signing-key.list", "done"),
            ("signing-key.rotate", "done"),
            ("signing-key.list", "done"),
            ("signing-key.rotate", "InvalidArgument"),
            ("token.revoke", "InvalidArgument"),
        ]

    run(tmp_path, story)


def test_the_system_token_is_given_or_made_up(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        world = api.world
        access = Access(world.meta, world.store.cluster.described, SECRETS, clock=world.clock)
        given = "a system token of mine"
        answer = await api("PUT", "/v1/system-token", json={"token": given.replace(" ", "-")})
        assert answer.json == {"status": "success"}
        await access.system_token(given.replace(" ", "-"))
        made_up = (await api("PUT", "/v1/system-token")).json["token"]
        await access.system_token(made_up)
        with pytest.raises(Unauthenticated):
            await access.system_token(given.replace(" ", "-"))
        for wrong in ("x" * 19, "x" * 201, given, "ü" * 30):
            assert (await api("PUT", "/v1/system-token", json={"token": wrong})).status == 400
        await access.system_token(made_up)
        rows = await audited(api)
        assert [row.action for row in rows] == ["system-token.set"] * 2
        assert made_up not in repr(rows)

    run(tmp_path, story)


def test_the_audit_is_read_in_pages_both_ways(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        other = await make_key(api, "other", "admin")
        for number in range(4):
            await api(
                "PUT",
                f"/buckets/bucket-{number}",
                auth=other if number % 2 else ROOT,
            )
        first = (await api("GET", "/v1/audit?limit=2")).json
        assert [entry["target"] for entry in first["entries"]] == ["bucket-0", "bucket-1"]
        second = (await api("GET", f"/v1/audit?limit=2&after={first['next']}")).json
        assert [entry["target"] for entry in second["entries"]] == ["bucket-2", "bucket-3"]
        newest = (await api("GET", "/v1/audit?limit=2&newest=1&action=bucket")).json["entries"]
        assert [entry["target"] for entry in newest] == ["bucket-3", "bucket-2"]
        own = (await api("GET", "/v1/audit?actor=other")).json
        assert [entry["target"] for entry in own["entries"]] == ["bucket-1", "bucket-3"]
        assert own["next"] is None
        listed = (await api("GET", "/v1/audit?action=audit.list")).json["entries"]
        assert len(listed) == 5 and listed[0]["source"] == "127.0.0.1"
        for bad in ("limit=0", "after=x", "limit=-1"):
            assert (await api("GET", f"/v1/audit?{bad}")).status == 400

    run(tmp_path, story)
