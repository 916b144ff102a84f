"""Listings, buckets, versions and places, as a client of the native API sees them."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.frontend.harness import random_bytes
from tests.frontend.rest.serving import Api, run

HELLO = b"hello world"
HELLO_BASE64 = "uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek="


def test_listing_pages_with_prefix_and_delimiter(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        assert (await api("PUT", "/buckets/photos")).status == 201
        assert (await api("PUT", "/buckets/photos")).status == 409
        for name in ("a", "b/1", "b/2", "c d", "e/f/g"):
            await api("PUT", "/buckets/photos/objects/" + quote(name), data=b"x")
        page = (await api("GET", "/buckets/photos/objects?delimiter=/")).json
        assert [entry["key"] for entry in page["objects"]] == ["a", "c d"]
        assert page["prefixes"] == ["b/", "e/"]
        keys, after = [], ""
        while after is not None:
            query = f"?limit=2&after={quote(after, safe='')}"
            page = (await api("GET", "/buckets/photos/objects" + query)).json
            keys += [entry["key"] for entry in page["objects"]]
            after = page["next"]
        assert keys == ["a", "b/1", "b/2", "c d", "e/f/g"]
        assert (await api("GET", "/buckets/photos/objects?limit=x")).status == 400
        assert (await api("GET", "/buckets/nowhere/objects")).status == 404
        assert (await api("DELETE", "/buckets/photos")).status == 409
        names = [b["name"] for b in (await api("GET", "/buckets")).json["buckets"]]
        assert "photos" in names
        assert (await api("GET", "/buckets/photos")).json["name"] == "photos"
        assert (await api("HEAD", "/buckets/nowhere")).status == 404
        assert (await api("PUT", "/buckets/X")).status == 400

    run(tmp_path, story)


def test_bucket_profile_is_used(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        made = await api("PUT", "/buckets/wide?profile=3%2B2")
        assert made.json["profile"] == "3+2"
        assert (await api("GET", "/buckets/wide")).json["profile"] == "3+2"
        await api("PUT", "/buckets/wide/objects/k", data=random_bytes(50_000))
        assert len((await api("GET", "/locate/k?bucket=wide")).json) == 5
        more = {"X-Oss-Profile": "2+1"}
        await api("PUT", "/buckets/wide/objects/k", data=random_bytes(50_001), headers=more)
        assert len((await api("GET", "/locate/k?bucket=wide")).json) == 3
        # A '+' that nobody encoded reads as a space, of a bucket as of an object.
        assert (await api("PUT", "/buckets/bare?profile=3+2")).json["profile"] == "3+2"
        for number, plus in enumerate(("+", "%2B"), start=2):
            path = f"/buckets/wide/objects/k?profile=1{plus}1"
            put = await api("PUT", path, data=random_bytes(50_000 + number))
            assert put.status == 200
            assert len((await api("GET", "/locate/k?bucket=wide")).json) == 2
        for bad in ("0+1", "x", "17+1"):
            headers = {"X-Oss-Profile": bad}
            answer = await api("PUT", "/objects/k", data=b"x", headers=headers)
            assert answer.status == 400

    run(tmp_path, story)


def test_version_lines(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        assert (await api("GET", "/versions/")).body == b""
        await api("PUT", "/objects/k", data=HELLO)
        await api("PUT", "/objects/k", data=b"other")
        await api("DELETE", "/objects/k")
        await api("PUT", "/objects/z", data=HELLO)
        got = await api("GET", "/versions/k")
        lines = [json.loads(line) for line in got.body.splitlines()]
        assert lines[0] == {"Name": "k", "Version": 1, "Size": 11, "Hash": HELLO_BASE64}
        assert lines[2] == {"Name": "k", "Version": 3, "Size": 0, "Hash": ""}
        everything = await api("GET", "/versions/", headers={"Accept": "application/json"})
        assert [(e["Name"], e["Version"]) for e in everything.json] == [
            ("k", 1),
            ("k", 2),
            ("k", 3),
            ("z", 1),
        ]
        path, seen = "/versions/k?limit=1", []
        while path:
            got = await api("GET", path)
            seen += [json.loads(line)["Version"] for line in got.body.splitlines()]
            link = got.headers.get("Link", "")
            path = link[1 : link.index(">")] if link else ""
        assert seen == [1, 2, 3]

    run(tmp_path, story)


def test_bucket_versions_page_by_page(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        for _ in range(3):
            await api("PUT", "/buckets/bucket/objects/5:a", data=b"x")
        await api("PUT", "/buckets/bucket/objects/b", data=b"x")
        for path in ("/buckets/bucket/versions", "/buckets/bucket/versions/5:a"):
            seen: list[Any] = []
            after = ""
            while after is not None:
                page = (await api("GET", f"{path}?limit=2&after={quote(after, safe='')}")).json
                seen += [(entry["key"], entry["version"]) for entry in page["versions"]]
                after = page["next"]
            expected = [("5:a", 3), ("5:a", 2), ("5:a", 1)]
            assert seen == (expected if path.endswith("a") else [*expected, ("b", 1)])

    run(tmp_path, story)


def test_locate_by_name_and_by_hash(tmp_path: Path) -> None:
    body = random_bytes(50_000)
    digest = hashlib.sha256(body).digest()

    async def story(api: Api) -> None:
        await api("PUT", "/objects/k", data=body)
        by_name = (await api("GET", "/locate/k")).json
        assert sorted(by_name) == ["0", "1", "2", "3", "4", "5"]
        assert by_name["0"].endswith(":9201")
        escaped = quote(base64.b64encode(digest).decode(), safe="")
        for name in (digest.hex(), escaped):
            assert (await api("GET", f"/locate/{name}")).json == by_name
        assert len((await api("GET", "/locate/k?all=1")).json["stripes"]) == 1
        assert (await api("GET", "/locate/nothing")).status == 404
        answer = await api("POST", "/locate/k")
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")

    run(tmp_path, story)
