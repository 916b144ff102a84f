"""Links a browser opens: what they show, how safely, and when they end."""

from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from tests.frontend.harness import ROOT, random_bytes
from tests.frontend.rest.keys_at_hand import make_key
from tests.frontend.rest.serving import Answer, Api, run

HELLO = b"hello world"


async def share(api: Api, key: str = "k", auth: Any = ROOT, **more: Any) -> Answer:
    return await api("POST", "/v1/shares", auth=auth, json={"key": key, **more})


async def open_link(api: Api, link: str, method: str = "GET", **headers: str) -> Answer:
    """As a browser does: no credentials, nothing but the link."""
    return await api(method, urlsplit(link).path, auth=None, headers=headers)


def test_a_link_shows_the_version_that_was_shared(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        await api("PUT", "/objects/k", data=HELLO, headers={"Content-Type": "text/plain"})
        made = await share(api)
        assert (made.status, made.json["version"]) == (201, 1)
        assert made.json["url"].startswith(f"http://127.0.0.1:{api.port}/share/")
        await api("PUT", "/objects/k", data=b"newer")
        got = await open_link(api, made.json["url"])
        assert (got.status, got.body) == (200, HELLO)
        assert got.headers["Content-Disposition"] == 'inline; filename="k"'
        assert got.headers["Content-Type"] == "text/plain"
        assert (await open_link(api, made.json["url"], "HEAD")).headers["Content-Length"] == "11"
        assert (await open_link(api, f"/share/{made.json['token']}")).body == HELLO
        escaped = quote(made.json["token"], safe="").replace("e", "%65")
        assert (await open_link(api, f"/share/{escaped}/x")).body == HELLO
        older = await share(api, version=1)
        assert (await open_link(api, older.json["url"])).body == HELLO
        await api("DELETE", "/objects/k?version=1")
        gone = await open_link(api, made.json["url"])
        assert (gone.status, gone.body) == (404, b"NoSuchVersion: " + gone.body[15:])

    run(tmp_path, story)


def test_a_link_may_not_run_what_it_shows_nor_leak_itself(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        page = b"<script>alert(document.cookie)</script>"
        headers = {
            "Content-Type": "text/html",
            "Cache-Control": "public, max-age=31536000",
            "Content-Disposition": 'attachment; filename="evil"',
        }
        await api("PUT", "/objects/page.html", data=page, headers=headers)
        link = (await share(api, "page.html")).json["url"]
        got = await open_link(api, link)
        assert "sandbox" in got.headers["Content-Security-Policy"]
        assert got.headers["X-Content-Type-Options"] == "nosniff"
        assert got.headers["Referrer-Policy"] == "no-referrer"
        assert got.headers["Cache-Control"] == "private, no-cache"
        assert got.headers["Content-Disposition"] == 'inline; filename="page.html"'
        await api(
            "PUT", "/objects/a.pdf", data=b"%PDF", headers={"Content-Type": "application/pdf"}
        )
        pdf = await open_link(api, (await share(api, "a.pdf")).json["url"])
        assert "Content-Security-Policy" not in pdf.headers
        assert pdf.headers["X-Content-Type-Options"] == "nosniff"

    run(tmp_path, story)


def test_names_of_all_kinds_are_shared(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        for key, expected in (
            (
                "a/b/ü ☃.txt",
                "inline; filename=\"_ _.txt\"; filename*=UTF-8''%C3%BC%20%E2%98%83.txt",
            ),
            ("folder/", 'inline; filename="folder"'),
            ('q"uote', "inline; filename=\"q_uote\"; filename*=UTF-8''q%22uote"),
        ):
            await api("PUT", "/objects/" + quote(key), data=HELLO)
            got = await open_link(api, (await share(api, key)).json["url"])
            assert (got.body, got.headers["Content-Disposition"]) == (HELLO, expected)

    run(tmp_path, story)


def test_ranges_and_conditions_work(tmp_path: Path) -> None:
    body = random_bytes(9_000_000)

    async def story(api: Api) -> None:
        await api("PUT", "/objects/k", data=body)
        link = (await share(api, attachment=True)).json["url"]
        whole = await open_link(api, link)
        assert whole.body == body
        assert whole.headers["Content-Disposition"] == 'attachment; filename="k"'
        part = await open_link(api, link, Range="bytes=8388600-8388700")
        assert (part.status, part.body) == (206, body[8388600:8388701])
        assert (await open_link(api, link, Range="bytes=99999999-")).status == 416
        fresh = await open_link(api, link, **{"If-None-Match": whole.headers["ETag"]})
        assert (fresh.status, fresh.body) == (304, b"")

    run(tmp_path, story)


def test_a_link_ends_in_time_by_hand_or_with_its_key(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        await api("PUT", "/objects/k", data=HELLO)
        own = await make_key(api, "own", "download")
        first, second = [(await share(api, auth=own)).json for _ in range(2)]
        await api("DELETE", f"/v1/tokens/{first['jti']}")
        assert (await open_link(api, first["url"])).status == 401
        assert (await open_link(api, second["url"])).status == 200
        await api("DELETE", "/v1/keys/own")
        ended = await open_link(api, second["url"])
        assert ended.status == 401
        assert not ended.headers["WWW-Authenticate"].startswith("Basic")
        assert b"It was taken back, or who made it" in ended.body

    run(tmp_path, story)


def test_errors_are_pages_for_people_and_text_for_tools(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        for path in ("/share/nonsense", "/share/nonsense/<b>", "/share/a.b/c"):
            text = await open_link(api, path)
            assert (text.status, text.headers["Content-Type"]) == (401, "text/plain; charset=utf-8")
            page = await open_link(api, path, Accept="text/html,*/*")
            assert page.headers["Content-Type"] == "text/html; charset=utf-8"
            assert page.body.startswith(b"<!doctype html>") and b"MalformedToken" in page.body
            for told in (text.body, page.body):
                assert b"exactly as it was sent to you" in told and b"base64" not in told
            assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        body = {"type": "download", "hash": "0" * 64}
        ticket = (await api("POST", "/v1/tokens", json=body)).json["token"]
        other = await open_link(api, f"/share/{ticket}")
        assert other.status == 403 and b"good for something" in other.body
        await api("PUT", "/objects/k", data=HELLO)
        link = (await share(api)).json["url"]
        await api("DELETE", "/objects/k?version=1")
        gone = await open_link(api, link, Accept="text/html")
        assert gone.status == 404 and b"It was removed after the link was made" in gone.body
        assert (await api("PUT", "/share/x", data=b"x")).status == 405

    run(tmp_path, story)


@pytest.mark.parametrize(
    ("wanted", "status"),
    [
        ({"key": "missing"}, 404),
        ({"key": "k", "version": 9}, 404),
        ({"key": "k", "version": 0}, 404),
        ({"key": "marked"}, 404),
        ({"key": "marked", "version": 2}, 404),
        ({"key": "k", "bucket": "no-such-bucket"}, 404),
        ({"key": "k", "bucket": "NO"}, 400),
        ({"key": ""}, 400),
        ({}, 400),
        ({"key": "k", "expires_s": 0}, 400),
        ({"key": "k", "expires_s": 10**9}, 400),
        ({"key": "k", "expires": "1h"}, 400),
        ({"key": "k", "expires_s": 400 * 86_400}, 400),
    ],
)
def test_what_cannot_be_shared_is_refused(
    tmp_path: Path, wanted: dict[str, Any], status: int
) -> None:
    async def story(api: Api) -> None:
        await api("PUT", "/objects/k", data=HELLO)
        await api("PUT", "/objects/marked", data=HELLO)
        await api("DELETE", "/objects/marked")
        answer = await api("POST", "/v1/shares", json=wanted)
        assert answer.status == status
        if wanted.get("expires_s") == 400 * 86_400:
            said = answer.json["error"]["message"]
            assert said.startswith("A link lives") and "30 days" in said and "400 days" in said

    run(tmp_path, story)


def test_only_who_may_download_may_share(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        await api("PUT", "/objects/k", data=HELLO)
        for scopes, limits in (
            (("upload", "info"), {}),
            (("download",), {"buckets": ("other",)}),
            (("download",), {"prefixes": ("p/",)}),
        ):
            auth = await make_key(api, "own", *scopes, **limits)
            assert (await share(api, auth=auth)).status == 403
        assert (await share(api, auth=None)).status == 401

    run(tmp_path, story)
