"""The native API as a client sees it."""

import base64
import gzip
import hashlib
import logging
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from ossd.clock import system_random
from ossd.signing import seal
from raftmeta.catalog.soft import SoftState
from raftmeta.commands import Done
from raftmeta.credentials import PutAccessKey, RevokeAccessKey
from raftmeta.queries import FrontendInfo
from tests.frontend.harness import CATALOG_KEY, random_bytes, url
from tests.frontend.rest.keys_at_hand import audited
from tests.frontend.rest.serving import Api, run

HELLO = b"hello world"
HELLO_HEX = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
NAMES = [
    "plain",
    "with space",
    "a/b/c",
    "..",
    "../../etc/passwd",
    "100%",
    "%2F",
    "a+b",
    "☃ 🎉/ü",
    "/leading",
    "double//slash/",
    "?query#fragment",
    "x" * 1024,
]


def lasting(headers: Any) -> dict[str, str]:
    """Those headers that do not change from one answer to the next."""
    return {k: v for k, v in headers.items() if k.lower() not in ("date", "x-request-id")}


@pytest.mark.parametrize("slashes", ["", "/"])
def test_any_name_round_trips(tmp_path: Path, slashes: str) -> None:
    async def story(api: Api) -> None:
        for name in NAMES:
            path = "/objects/" + quote(name, safe=slashes)
            assert (await api("PUT", path, data=name.encode())).status == 200
            assert (await api("GET", path)).body == name.encode()
        listed = (await api("GET", "/buckets/objects/objects")).json["objects"]
        assert [entry["key"] for entry in listed] == sorted(NAMES, key=str.encode)

    run(tmp_path, story)


def test_names_that_are_not_allowed_are_refused(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        for path in ("/objects/%ff", "/objects/" + "x" * 1025, "/objects/a%00b", "/objects/a%zz"):
            answer = await api("PUT", path, data=b"x")
            assert (answer.status, answer.json["error"]["code"]) == (400, "InvalidName"), path

    run(tmp_path, story)


def test_put_answers_what_was_stored(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        answer = await api("PUT", "/objects/k", data=HELLO)
        assert answer.json["version"] == 1
        assert answer.json["size"] == len(HELLO)
        assert answer.json["sha256"] == answer.json["etag"] == HELLO_HEX
        assert answer.headers["ETag"] == f'"{HELLO_HEX}"'
        assert answer.headers["X-Version"] == "1"
        got = await api("GET", "/objects/k?version_id=" + answer.json["version_id"])
        assert got.body == HELLO

    run(tmp_path, story)


def test_versions_and_markers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story(api: Api) -> None:
        for body in (b"one", b"two", b""):
            await api("PUT", "/objects/k", data=body)
        assert (await api("GET", "/objects/k?version=1")).body == b"one"
        assert (await api("GET", "/objects/k")).body == b""
        for version, status in (("4", 404), ("x", 400), ("0", 404), ("9" * 40, 404), ("-1", 400)):
            assert (await api("GET", f"/objects/k?version={version}")).status == status, version
        gone = await api("DELETE", "/objects/k")
        assert (gone.status, gone.headers["X-Version"]) == (204, "4")
        assert (await api("GET", "/objects/k")).status == 404
        assert (await api("GET", "/objects/k?version=4")).status == 404
        assert (await api("GET", "/objects/k?version=2")).body == b"two"
        back = await api("POST", "/objects/k?undelete=1")
        assert (back.json["version"], back.json["was_deleted"]) == (3, True)
        again = await api("POST", "/objects/k?undelete=1")
        assert again.json == {**back.json, "was_deleted": False}
        assert (await api("POST", "/objects/none?undelete=1")).status == 404
        with caplog.at_level(logging.INFO, "frontend.rest.objects"):
            assert (await api("DELETE", "/objects/k?version=3")).status == 204
        (said,) = [r for r in caplog.records if r.message == "version_removed"]
        told = {name: vars(said)[name] for name in ("access_key", "bucket", "key", "version")}
        assert told == {"access_key": "root", "bucket": "objects", "key": "k", "version": 3}
        assert await audited(api) == []
        assert (await api("GET", "/objects/k")).body == b"two"
        assert (await api("GET", "/objects/k?version=3")).status == 404
        assert (await api("DELETE", "/objects/none")).status == 404

    run(tmp_path, story)


def test_head_has_the_headers_of_get(tmp_path: Path) -> None:
    headers = {
        "Content-Type": "text/x-test",
        "X-Oss-Meta-Color": "blue",
        "Cache-Control": "no-store",
        "Content-Disposition": "attachment",
    }

    async def story(api: Api) -> None:
        for size_bytes in (0, 11, 300_000):
            await api("PUT", "/objects/k", data=random_bytes(size_bytes), headers=headers)
            for more in ({}, {"Range": "bytes=0-4"}, {"Accept-Encoding": "gzip"}):
                got = await api("GET", "/objects/k", headers=more)
                head = await api("HEAD", "/objects/k", headers=more)
                assert (head.status, head.body) == (got.status, b"")
                assert lasting(head.headers) == lasting(got.headers)
            assert (got := await api("GET", "/objects/k")).headers["X-Oss-Meta-Color"] == "blue"
            assert got.headers["Content-Type"] == "text/x-test"
            assert got.headers["Content-Disposition"] == "attachment"

    run(tmp_path, story)


@pytest.mark.parametrize("size_bytes", [1000, 300_000])
def test_ranges(tmp_path: Path, size_bytes: int) -> None:
    body = random_bytes(size_bytes)
    last = size_bytes - 1
    cases = [
        ("bytes=0-0", body[:1]),
        ("bytes=5-9", body[5:10]),
        (f"bytes={last}-", body[-1:]),
        ("bytes=-7", body[-7:]),
        ("bytes=-99999999", body),
        (f"bytes=3-{size_bytes * 9}", body[3:]),
    ]

    async def story(api: Api) -> None:
        etag = (await api("PUT", "/objects/k", data=body)).headers["ETag"]
        for header, expected in cases:
            got = await api("GET", "/objects/k", headers={"Range": header})
            assert (got.status, got.body) == (206, expected), header
            assert got.headers["Content-Length"] == str(len(expected))
        for header in (f"bytes={size_bytes}-", "bytes=-0"):
            got = await api("GET", "/objects/k", headers={"Range": header})
            assert got.status == 416
            assert got.headers["Content-Range"] == f"bytes */{size_bytes}"
        for header in ("bytes=0-1,3-4", "bytes=5-2", "lines=1-2", "bytes=x-"):
            got = await api("GET", "/objects/k", headers={"Range": header})
            assert (got.status, got.body) == (200, body), header
        ranged = {"Range": "bytes=7-8"}
        assert (await api("GET", "/objects/k", headers=ranged | {"If-Range": etag})).status == 206
        other = ranged | {"If-Range": '"other"'}
        assert (await api("GET", "/objects/k", headers=other)).body == body

    run(tmp_path, story)


def test_conditional_get(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        stored = await api("PUT", "/objects/k", data=HELLO)
        etag, modified = stored.headers["ETag"], stored.headers["Last-Modified"]
        old = "Sun, 06 Nov 1994 08:49:37 GMT"
        cases: list[tuple[dict[str, str], int]] = [
            ({"If-None-Match": etag}, 304),
            ({"If-None-Match": f'"x", W/{etag}'}, 304),
            ({"If-None-Match": "*"}, 304),
            ({"If-None-Match": '"x"'}, 200),
            ({"If-None-Match": '"x"', "If-Modified-Since": modified}, 200),
            ({"If-Modified-Since": modified}, 304),
            ({"If-Modified-Since": old}, 200),
            ({"If-Modified-Since": "not a date"}, 200),
            ({"If-Match": etag}, 200),
            ({"If-Match": "*"}, 200),
            ({"If-Match": '"x"'}, 412),
            ({"If-Match": f"W/{etag}"}, 412),
            ({"If-Unmodified-Since": old}, 412),
            ({"If-Unmodified-Since": modified}, 200),
            ({"If-Match": etag, "If-Unmodified-Since": old}, 200),
            ({"If-Match": '"x"', "If-None-Match": etag}, 412),
        ]
        for headers, status in cases:
            got = await api("GET", "/objects/k", headers=headers)
            assert got.status == status, headers
            if status == 304:
                assert (got.headers["ETag"], got.body) == (etag, b"")

    run(tmp_path, story)


def test_conditional_put_and_delete(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        only_new = {"If-None-Match": "*"}
        stored = await api("PUT", "/objects/k", data=b"1", headers=only_new)
        assert stored.status == 200
        assert (await api("PUT", "/objects/k", data=b"2", headers=only_new)).status == 412
        wrong = {"If-Match": '"x"'}
        assert (await api("PUT", "/objects/k", data=b"2", headers=wrong)).status == 412
        assert (await api("DELETE", "/objects/k", headers=wrong)).status == 412
        same = {"If-Match": stored.headers["ETag"]}
        assert (await api("PUT", "/objects/k", data=b"2", headers=same)).json["version"] == 2
        assert (await api("DELETE", "/objects/k", headers=same)).status == 412
        assert (await api("PUT", "/objects/n", data=b"2", headers={"If-Match": "*"})).status == 412

    run(tmp_path, story)


def test_declared_digests(tmp_path: Path) -> None:
    right = base64.b64encode(hashlib.sha256(HELLO).digest()).decode()
    wrong = base64.b64encode(bytes(32)).decode()
    cases = [
        ({"Digest": f"SHA-256={right}"}, 200),
        ({"Digest": f"sha-256={right},MD5=xyz"}, 200),
        ({"Digest": f"SHA-256={wrong}"}, 400),
        ({"Digest": "SHA-256=abc"}, 400),
        ({"Digest": "nonsense"}, 400),
        ({"Digest": "MD5=anything"}, 400),
        ({"Digest": "MD5=anything", "Content-Digest": f"sha-256=:{right}:"}, 200),
        ({"Content-Digest": f"sha-256=:{right}:"}, 200),
        ({"Repr-Digest": f"sha-512=:AAAA:, sha-256=:{right}:"}, 200),
        ({"Repr-Digest": f"sha-256=:{wrong}:"}, 400),
        ({"Repr-Digest": "sha-512=:AAAA:"}, 400),
        ({"Content-Digest": f"sha-256={right}"}, 400),
    ]

    async def story(api: Api) -> None:
        stored = 0
        for headers, status in cases:
            answer = await api("PUT", "/objects/k", data=HELLO, headers=headers)
            assert answer.status == status, headers
            stored += status == 200
            assert (answer.json.get("version", stored)) == stored

    run(tmp_path, story)


def test_gzip_on_the_fly(tmp_path: Path) -> None:
    small, large = b"some text " * 20, b"line of text\n" * 500_000

    async def story(api: Api) -> None:
        for body in (b"tiny", small, large):
            stored = await api("PUT", "/objects/k", data=body)
            plain = await api("GET", "/objects/k", headers={"Accept-Encoding": "identity"})
            assert (plain.body, plain.headers["Vary"]) == (body, "Accept-Encoding")
            for accept in ("gzip", "br;q=1.0, gzip;q=0.5", "GZIP"):
                got = await api("GET", "/objects/k", headers={"Accept-Encoding": accept})
                assert gzip.decompress(got.body) == body, accept
                tag = stored.headers["ETag"].strip('"') + "-gzip"
                assert got.headers["ETag"] == f'"{tag}"'
                fresh = {"Accept-Encoding": accept, "If-None-Match": f'"{tag}"'}
                assert (await api("GET", "/objects/k", headers=fresh)).status == 304
            for accept in ("gzip;q=0", "br", "gzip;q=x"):
                got = await api("GET", "/objects/k", headers={"Accept-Encoding": accept})
                assert ("Content-Encoding" not in got.headers) and got.body == body
            ranged = {"Accept-Encoding": "gzip", "Range": "bytes=1-3"}
            got = await api("GET", "/objects/k", headers=ranged)
            assert (got.status, got.body) == (206, body[1:4])
        noise = random_bytes(4000)
        await api("PUT", "/objects/k", data=noise)
        got = await api("GET", "/objects/k", headers={"Accept-Encoding": "gzip"})
        assert got.body == noise

    run(tmp_path, story)


def test_own_content_encoding_is_kept(tmp_path: Path) -> None:
    packed = gzip.compress(HELLO * 50)

    async def story(api: Api) -> None:
        await api("PUT", "/objects/k", data=packed, headers={"Content-Encoding": "gzip"})
        got = await api("GET", "/objects/k", headers={"Accept-Encoding": "gzip"})
        assert (got.body, got.headers["Content-Encoding"]) == (packed, "gzip")
        assert "-gzip" not in got.headers["ETag"]

    run(tmp_path, story)


def test_methods_that_do_not_exist(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        for method, path in (("PATCH", "/objects/k"), ("POST", "/locate/k"), ("PUT", "/buckets")):
            answer = await api(method, path)
            assert answer.status == 405 and "GET" in answer.headers["Allow"]
        assert (await api("GET", "/nothing/here")).status == 404

    run(tmp_path, story)


def test_credentials_and_scopes(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        await api("PUT", "/objects/k", data=HELLO)
        for auth in (None, ("root", "wrong"), ("nobody", "root-secret"), ("", "")):
            answer = await api("GET", "/objects/k", auth=auth)
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"].startswith("Basic")
        bearer = {"Authorization": "Bearer root:root-secret"}
        assert (await api("GET", "/objects/k", auth=None, headers=bearer)).status == 200
        for bad in ("Basic ???", "Bearer x", "Digest a=b", "Basic " + "x" * 5000):
            headers = {"Authorization": bad}
            assert (await api("GET", "/objects/k", auth=None, headers=headers)).status == 401
        reader = PutAccessKey(
            access_key="reader",
            secret_sealed=seal(CATALOG_KEY, b"s", system_random),
            scopes=("download",),
            buckets=("objects",),
        )
        await api.world.meta.propose(reader, Done)
        own = ("reader", "s")
        assert (await api("GET", "/objects/k", auth=own)).status == 200
        for method, path in (
            ("PUT", "/objects/k"),
            ("DELETE", "/objects/k"),
            ("GET", "/buckets/objects/objects"),
            ("GET", "/buckets/bucket/objects/k"),
            ("PUT", "/buckets/new"),
            ("GET", "/v1/cluster"),
        ):
            assert (await api(method, path, auth=own)).status == 403, path
        await api.world.meta.propose(RevokeAccessKey(access_key="reader"), Done)
        assert (await api("GET", "/objects/k", auth=own)).status == 401

    run(tmp_path, story)


def test_unreadable_stripe_is_503_before_and_a_cut_after_the_first_byte(tmp_path: Path) -> None:
    body = random_bytes(9_000_000)

    async def story(api: Api) -> None:
        await api("PUT", "/objects/k", data=body)
        located = (await api("GET", "/locate/k?all=1")).json["stripes"]
        blobs = api.world.blobs
        for place in blobs.places():
            if place[1].stripe.hex() == located[-1]["stripe"]:
                blobs.corrupt.add(place)
        got = await api("GET", "/objects/k", headers={"Range": "bytes=-10"})
        assert got.status == 503
        assert got.json["error"]["stripe_id"] == located[-1]["stripe"]
        assert "Retry-After" in got.headers
        with pytest.raises(aiohttp.ClientError):
            await api("GET", "/objects/k")

    run(tmp_path, story)


def test_too_few_nodes_is_503(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        api.world.blobs.refusing = {url(node) for node in api.world.nodes}
        answer = await api("PUT", "/objects/k", data=random_bytes(50_000))
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")

    run(tmp_path, story, nodes=3)


def test_body_that_breaks_off_makes_no_version(tmp_path: Path) -> None:
    import asyncio

    async def story(api: Api) -> None:
        for declared in (100, 5_000_000, 20_000_000):
            _, writer = await asyncio.open_connection("127.0.0.1", api.port)
            pair = base64.b64encode(b"root:root-secret").decode()
            writer.write(
                f"PUT /objects/k HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {pair}\r\n"
                f"Content-Length: {declared}\r\n\r\n".encode()
            )
            writer.write(bytes(declared - 1))
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        assert (await api("GET", "/objects/k")).status == 404
        assert (await api("PUT", "/objects/k", data=b"x")).json["version"] == 1

    run(tmp_path, story)


def test_chunked_bodies_are_taken(tmp_path: Path) -> None:
    body = random_bytes(9_000_000)

    async def story(api: Api) -> None:
        async def sent() -> Any:
            for at in range(0, len(body), 300_000):
                yield body[at : at + 300_000]

        assert (await api("PUT", "/objects/k", data=sent())).json["size"] == len(body)
        assert (await api("GET", "/objects/k")).body == body

    run(tmp_path, story)


def test_health_and_status(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        assert (await api("GET", "/livez", auth=None)).status == 200
        ready = await api("GET", "/readyz?verbose", auth=None)
        assert (ready.status, ready.body.count(b"[ok]")) == (200, 2)
        status = (await api("GET", "/v1/status", auth=None)).json
        assert (status["role"], status["id"]) == ("frontend", "frontend-1")
        assert b"oss_request_seconds" in (await api("GET", "/metrics", auth=None)).body
        found = (await api("GET", "/v1/cluster")).json
        assert [node["id"] for node in found["blobs"]] == api.world.nodes
        assert [node["state"] for node in found["metanodes"]] == ["down"] * 3
        assert found["frontends"] == [{"id": "frontend-1", "state": "up"}]
        other = FrontendInfo(
            frontend="frontend-2", url="http://f2", health="down", last_heartbeat_ms_ago=9
        )
        api.world.meta_rpc.soft = SoftState(frontends=(other,))
        assert (await api("GET", "/v1/cluster")).json["frontends"] == [
            {
                "id": "frontend-2",
                "state": "down",
                "url": "http://f2",
                "last_heartbeat_ms_ago": 9,
            },
            {"id": "frontend-1", "state": "up"},
        ]

    run(tmp_path, story)


def test_a_version_that_is_named_but_empty_changes_nothing(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        await api("PUT", "/objects/k", data=b"kept")
        for method in ("GET", "DELETE"):
            for named in ("version_id=", "version=", "version_id=&version=1"):
                answer = await api(method, f"/objects/k?{named}")
                assert (answer.status, answer.json["error"]["code"]) == (400, "InvalidArgument")
        assert (await api("GET", "/objects/k")).body == b"kept"

    run(tmp_path, story)


def test_undelete_names_no_version(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        await api("PUT", "/objects/k", data=b"one")
        await api("DELETE", "/objects/k")
        for named in ("version=1", "version_id=abc"):
            assert (await api("POST", f"/objects/k?undelete=1&{named}")).status == 400
        assert (await api("GET", "/objects/k")).status == 404

    run(tmp_path, story)


def test_a_profile_that_is_wrong_or_said_twice_is_refused(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        for argument, header in (("x", "2+1"), ("2+1", "x"), ("2+1", "4+2")):
            headers = {"X-Oss-Profile": header}
            for path in ("/objects/k", "/buckets/some-bucket"):
                answer = await api("PUT", f"{path}?profile={argument}", headers=headers, data=b"")
                assert answer.status == 400, (path, argument, header)
        same = await api("PUT", "/objects/k?profile=2%2B1", headers={"X-Oss-Profile": "2+1"})
        assert same.status == 200
        assert (await api("GET", "/buckets/some-bucket")).status == 404

    run(tmp_path, story)


def test_undelete_and_an_upload_do_not_go_together(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        await api("PUT", "/objects/k", data=b"x")
        await api("DELETE", "/objects/k")
        for name, value in (("Size", ""), ("Upload-Length", "1"), ("Digest", "SHA-256=x")):
            refused = await api("POST", "/objects/k?undelete=1", headers={name: value})
            assert refused.status == 400 and "takes no Digest and no Size" in str(refused.json)
        assert (await api("GET", "/objects/k")).status == 404
        assert (await api("POST", "/objects/k?undelete=1")).status == 200

    run(tmp_path, story)
