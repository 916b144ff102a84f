"""The system token and the tokens it is good for: made, presented, refused."""

import base64
import json
from pathlib import Path

import pytest

from frontend.tickets import TTL_S_MAX
from tests.frontend.harness import ROOT
from tests.frontend.rest.keys_at_hand import audited, make_key
from tests.frontend.tokens.client import FORM, SYSTEM, TokenApi, form_of, hash_of, run

HELLO = b"hello world"
OTHER = "another-system-token-0"
UPLOADS = (
    ("POST", "/upload/single"),
    ("POST", "/upload/chuck?chuck=0"),
    ("POST", "/upload/chunk?chunk=0"),
    ("GET", "/upload/finish?file_name=f"),
    ("POST", "/upload/finish?file_name=f"),
)
DOWNLOADS = (("GET", "/download"),)
BOTH = (("GET", "/file/info"), ("DELETE", "/file"))


# --- the system token ------------------------------------------------------------------------


def test_the_system_token_is_replaced_at_once(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        minted = await api.token("upload", HELLO)
        body = {"json": {"token": OTHER}, "headers": {"SYSTEMTOKEN": SYSTEM}}
        assert await api.data("PUT", "/server/token", **body) == {"status": "success"}
        await api.refused(401, 5533, "GET", "/server/active", system=SYSTEM)
        await api.refused(401, 5533, "PUT", "/server/token", **body)
        await api.data("GET", "/server/active", system=OTHER)
        assert (await api.single(HELLO, token=minted)).status == 200
        rows = await audited(api.api)
        used = [(r.actor, r.action, r.outcome) for r in rows if r.action == "system-token.set"]
        assert used == [
            (ROOT[0], "system-token.set", "done"),
            ("system", "system-token.set", "done"),
        ]
        assert not any(OTHER in str(row) or SYSTEM in str(row) for row in rows)

    run(tmp_path, story)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", 5521),
        (b"token", 5521),
        (b'{"token": "' + b"x" * 20, 5521),
        (b"[]", 5521),
        (b'"' + b"x" * 20 + b'"', 5521),
        (b'{"token": 12345678901234567890}', 5521),
        (b'{"token": null}', 5521),
        (b'{"token": "' + b"\xff" * 30 + b'"}', 5521),
        (b'{"more": ' + b"[" * 8000, 5521),
        (b"{}", 5523),
        (b'{"token": ""}', 5523),
        (b'{"token": "' + b"x" * 19 + b'"}', 5523),
        (b'{"token": "' + b"x" * 201 + b'"}', 5523),
        ('{"token": "' + "ü" * 30 + '"}', 5523),
        (b'{"token": "with a space in its middle"}', 5523),
    ],
)
def test_what_is_no_system_token_is_refused(tmp_path: Path, body: bytes | str, code: int) -> None:
    async def story(api: TokenApi) -> None:
        await api.refused(400, code, "PUT", "/server/token", system=SYSTEM, data=body)
        await api.data("GET", "/server/active", system=SYSTEM)

    run(tmp_path, story)


def test_a_field_that_is_missing_is_named(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        body = {"json": {"tok": "x" * 30}}
        missing = await api.refused(400, 5523, "PUT", "/server/token", system=SYSTEM, **body)
        assert "field `token` is missing" in missing.json["msg"]

    run(tmp_path, story)


def test_who_brings_no_token_is_told_every_way_to_bring_one(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        for method, path in (("GET", "/download"), ("POST", "/upload/single")):
            said = (await api.refused(401, 5531, method, path)).json["msg"]
            assert "header `token`" in said and "Authorization: Bearer" in said
            assert ("?token=" in said) == (path == "/download")

    run(tmp_path, story)


def test_a_hash_may_be_written_in_either_case(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        upper = await api.token("upload", hash_of(HELLO).upper())
        assert (await api.single(HELLO, token=upper)).status == 200
        assert (await api.download(HELLO)).body == HELLO
        refused = await api.refused(400, 5521, "GET", "/upload/token?hash=x", system=SYSTEM)
        assert "64 hex digits" in refused.json["msg"] and "lower" not in refused.json["msg"]

    run(tmp_path, story)


@pytest.mark.parametrize("token", ["x" * 20, "x" * 200, "!" + "~" * 30])
def test_its_length_has_both_ends(tmp_path: Path, token: str) -> None:
    async def story(api: TokenApi) -> None:
        await api.data("PUT", "/server/token", system=SYSTEM, json={"token": token, "more": 1})
        await api.data("GET", "/server/active", system=token)

    run(tmp_path, story)


def test_only_an_administrator_replaces_it(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        some = await make_key(api.api, "some", "upload", "download", "info", "delete")
        limited = await make_key(api.api, "limited", "admin", buckets=("files",))
        body = {"json": {"token": OTHER}}
        for auth in (some, limited):
            await api.refused(403, 5533, "PUT", "/server/token", auth=auth, **body)
        await api.refused(401, 5533, "PUT", "/server/token", **body)
        await api.refused(401, 5533, "PUT", "/server/token", system="", **body)
        await api.refused(401, 5533, "PUT", "/server/token", system="x" * 2000, **body)
        await api.refused(401, 5533, "PUT", "/server/token", auth=("root", "wrong"), **body)
        # A wrong system token is not mended by a key beside it.
        await api.refused(401, 5533, "PUT", "/server/token", system="wrong", auth=ROOT, **body)
        await api.data("GET", "/server/active", system=SYSTEM)

    run(tmp_path, story)


def test_who_lives(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        await api.refused(401, 5533, "GET", "/server/active")
        active = await api.data("GET", "/server/active", system=SYSTEM)
        nodes = api.api.world.nodes
        assert active == {"status": "success", "ips": nodes, "count": len(nodes)}
        info = await make_key(api.api, "info", "info")
        assert (await api.data("GET", "/server/active", auth=info))["count"] == len(nodes)
        upload = await make_key(api.api, "upload", "upload")
        await api.refused(403, 5533, "GET", "/server/active", auth=upload)

    run(tmp_path, story)


# --- tokens are made -------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "bit"), [("upload", 1), ("download", 2)])
def test_a_token_says_what_the_older_store_said(tmp_path: Path, kind: str, bit: int) -> None:
    async def story(api: TokenApi) -> None:
        now_s = api.api.world.clock.now_ms() // 1000
        text = await api.token(kind, HELLO)
        payload, _, mac = text.partition(".")
        said = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        assert said["token_type"] == bit and said["hash"] == hash_of(HELLO)
        assert 0 <= said["create_time"] - now_s <= 60
        assert said["expire_at"] - said["create_time"] == 86_400
        assert len(mac) == 64 and mac == mac.lower()
        timed = await api.token(kind, HELLO, ttl=60, max_size=5)
        payload = timed.partition(".")[0]
        said = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        assert (said["expire_at"] - said["create_time"], said["max_size"]) == (60, 5)
        form = {"hash": hash_of(HELLO).upper(), "ttl": "60"}
        for method in ("POST", "GET"):
            more = {"data": form, "system": SYSTEM}
            assert (await api.data(method, f"/{kind}/token", **more))["token"]

    run(tmp_path, story)


@pytest.mark.parametrize("kind", ["upload", "download"])
@pytest.mark.parametrize(
    "query",
    [
        "",
        "hash=",
        "hash=abc",
        "hash=" + "g" * 64,
        "hash=" + "a" * 63,
        "hash=" + "a" * 65,
        "hash=" + "%EF%BC%91" * 64,
        *("ttl=0", "ttl=-1", "ttl=x", "ttl=", "ttl=1.5", f"ttl={TTL_S_MAX + 1}", "ttl=" + "9" * 30),
        *("max_size=-1", "max_size=x", "max_size=", f"max_size={1 << 63}", "max_size=1e3"),
    ],
)
def test_what_makes_no_token_is_refused(tmp_path: Path, kind: str, query: str) -> None:
    async def story(api: TokenApi) -> None:
        whole = query if "hash" in query or not query else f"hash={'a' * 64}&{query}"
        await api.refused(400, 5521, "GET", f"/{kind}/token?{whole}", system=SYSTEM)

    run(tmp_path, story)


@pytest.mark.parametrize(("kind", "other"), [("upload", "download"), ("download", "upload")])
def test_a_key_makes_tokens_of_its_own_scope(tmp_path: Path, kind: str, other: str) -> None:
    async def story(api: TokenApi) -> None:
        path = f"/{kind}/token?hash={hash_of(HELLO)}"
        await api.refused(401, 5533, "GET", path)
        await api.refused(401, 5533, "GET", path, system="wrong")
        right = await make_key(api.api, "right", kind, buckets=("files",))
        assert (await api.data("GET", path, auth=right))["token"]
        bearer = {"Authorization": "Bearer right:s"}
        assert (await api.data("GET", path, headers=bearer))["token"]
        wrong = await make_key(api.api, "wrong", other, "info", "delete")
        await api.refused(403, 5533, "GET", path, auth=wrong)
        limited = await make_key(api.api, "limited", kind, prefixes=(hash_of(HELLO)[:4],))
        assert (await api.data("GET", path, auth=limited))["token"]
        elsewhere = f"/{kind}/token?hash={hash_of(b'other')}"
        await api.refused(403, 5533, "GET", elsewhere, auth=limited)

    run(tmp_path, story)


# --- tokens are presented --------------------------------------------------------------------


async def ask(api: TokenApi, method: str, path: str, token: str | None, *codes: int) -> None:
    """A request with that token is refused so."""
    more = {"data": form_of(HELLO), "headers": {"Content-Type": FORM}} if method == "POST" else {}
    needs_system = "finish" in path or "file" in path.split("?")[0]
    system = SYSTEM if needs_system else None
    await api.refused(codes[0], codes[1], method, path, token=token, system=system, **more)


def mutations(token: str) -> list[str]:
    """What is almost that token."""
    payload, mac = token.split(".")
    said = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    forged = []
    for change in (
        {"hash": hash_of(b"x")},
        {"expire_at": 1 << 40},
        {"token_type": 3},
        {"kid": "x"},
    ):
        text = json.dumps({**said, **change}).encode()
        forged.append(base64.urlsafe_b64encode(text).rstrip(b"=").decode() + "." + mac)
    flipped = mac[:-1] + ("0" if mac[-1] != "0" else "1")
    return [
        *("", ".", "x", "x.y", payload, mac, "." + mac, payload + ".", token[:-1], token[1:]),
        *(token + "0", payload + "." + mac.upper(), payload + "." + flipped, token * 50),
        *(payload + "." + "0" * 64, payload[:-4] + "." + mac, *forged),
    ]


@pytest.mark.parametrize("bit", ["upload", "download"])
def test_what_is_almost_a_token_is_none(tmp_path: Path, bit: str) -> None:
    async def story(api: TokenApi) -> None:
        token = await api.token(bit, HELLO)
        bad = [text for text in mutations(token) if text != token]
        assert len(bad) >= 20
        for text in bad:
            for method, path in (*(UPLOADS if bit == "upload" else DOWNLOADS), *BOTH):
                await ask(api, method, path, text, 401, 5531)
        for method, path in (*UPLOADS, *DOWNLOADS, *BOTH):
            await ask(api, method, path, None, 401, 5531)

    run(tmp_path, story)


def test_a_token_is_for_its_kind_only(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        upload, download = await api.token("upload", HELLO), await api.token("download", HELLO)
        for method, path in UPLOADS:
            await ask(api, method, path, download, 403, 5531)
        for method, path in DOWNLOADS:
            await ask(api, method, path, upload, 403, 5531)
        both = (await api.api.tickets.mint(3, bytes.fromhex(hash_of(HELLO)))).text
        assert (await api.single(HELLO, token=both)).status == 200
        assert (await api("GET", "/download", token=both)).body == HELLO

    run(tmp_path, story)


def test_a_token_is_for_its_content_only(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        await api.single(HELLO)
        other = await api.token("download", b"other")
        await api.refused(404, 5547, "GET", "/download", token=other)
        token = await api.token("upload", b"other")
        answer = await api.single(HELLO, token=token)
        assert (answer.status, answer.json["code"]) == (422, 5543)

    run(tmp_path, story)


def test_expired_and_revoked_tokens_are_worth_nothing(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        tokens = {kind: await api.token(kind, HELLO, ttl=100) for kind in ("upload", "download")}
        now_ms = api.api.world.clock.now_ms
        api.api.world.clock.now_ms = lambda: now_ms() + 101_000  # type: ignore[method-assign]
        for kind, requests in (("upload", UPLOADS), ("download", DOWNLOADS)):
            for method, path in (*requests, *BOTH):
                await ask(api, method, path, tokens[kind], 401, 5531)
        api.api.world.clock.now_ms = now_ms  # type: ignore[method-assign]
        rotated = await api.token("download", HELLO)
        made = await api.api.tickets.mint(1, bytes.fromhex(hash_of(HELLO)))
        assert (await api.single(HELLO, token=made.text)).status == 200
        assert (await api.api("DELETE", f"/v1/tokens/{made.jti}")).status == 204
        for method, path in (*UPLOADS, *BOTH):
            await ask(api, method, path, made.text, 401, 5531)
        await api.api("POST", "/v1/signing-keys/rotate", json={"overlap_s": 0})
        await ask(api, "GET", "/download", rotated, 401, 5531)

    run(tmp_path, story)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/server/token", {"PUT"}),
        ("/server/active", {"GET", "HEAD"}),
        ("/upload/token", {"GET", "POST"}),
        ("/download/token", {"GET", "POST"}),
        ("/upload/single", {"POST", "OPTIONS"}),
        ("/upload/chuck", {"POST", "OPTIONS"}),
        ("/upload/chunk", {"POST", "OPTIONS"}),
        ("/upload/finish", {"GET", "POST"}),
        ("/download", {"GET", "HEAD", "OPTIONS"}),
        ("/file/info", {"GET", "HEAD"}),
        ("/file", {"DELETE"}),
    ],
)
def test_other_methods_are_not_allowed(tmp_path: Path, path: str, allowed: set[str]) -> None:
    async def story(api: TokenApi) -> None:
        for method in {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"} - allowed:
            answer = await api(method, path)
            assert answer.status == 405, method
            assert set(answer.headers["Allow"].split(", ")) == allowed
            if method != "HEAD":
                assert answer.json["code"] == 5521 and answer.json["status"] is False

    run(tmp_path, story)


@pytest.mark.parametrize(
    "path",
    [
        "/upload",
        "/upload/",
        "/upload/chunks",
        "/download/x",
        "/file/infos",
        "/server/x/y",
    ],
)
def test_a_path_that_is_none_is_answered_in_this_dialect(tmp_path: Path, path: str) -> None:
    async def story(api: TokenApi) -> None:
        for method in ("GET", "POST", "PUT", "DELETE"):
            await api.refused(404, 5547, method, path, data=b"x" if method != "GET" else None)
        assert (await api("HEAD", path)).status == 404
        assert "error" in (await api("GET", "/uploads")).json  # of no dialect

    run(tmp_path, story)
