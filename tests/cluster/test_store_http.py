"""The native API as plain HTTP clients see it, from the outside of a whole cluster."""

import gzip
import json
import re
from base64 import b64decode
from collections.abc import Iterator
from email.utils import formatdate, parsedate_to_datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.cluster.local import Answer, LocalStore, noise, text, wait_for

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
SMALL = b"0123456789"
LARGE = noise(9_000_000, seed=9)
VECTORS = {
    b"hello world": "uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=",
    b"this is object test3": "GYqqAdFPt+CScnUDc0/Gcu3kwcWmOADKNYpiZtdbgsM=",
}


@pytest.mark.parametrize("body", VECTORS)
def test_known_digests_are_taken_and_given_back(unharmed: LocalStore, body: bytes) -> None:
    digest = VECTORS[body]
    right = b64decode(digest).hex()
    declared = ({"Digest": f"SHA-256={digest}"}, {"Content-Digest": f"sha-256=:{digest}:"})
    for headers in declared:
        answer = unharmed.request("PUT", "/objects/vector", body=body, headers=headers).expect(200)
        assert (answer.json()["sha256"], answer.json()["etag"]) == (right, right)
        assert answer.headers["ETag"] == f'"{right}"'
    assert versions(unharmed, "vector")[-1]["Hash"] == digest
    by_base64 = unharmed.request("GET", "/locate/" + quote(digest, safe="")).expect(200).json()
    assert by_base64 == unharmed.request("GET", "/locate/" + right).expect(200).json()
    assert set(by_base64.values()) == {m["http"][7:] for m in unharmed.facts()["metanodes"]}


def versions(store: LocalStore, name: str) -> list[dict[str, Any]]:
    """The lines of /versions/NAME."""
    answer = store.request("GET", f"/versions/{quote(name)}").expect(200)
    return [json.loads(line) for line in answer.body.splitlines()]


@pytest.fixture(params=[SMALL, LARGE], ids=["inline", "striped"])
def placed(request: pytest.FixtureRequest, unharmed: LocalStore) -> tuple[LocalStore, bytes]:
    """A store whose object http/one is the bytes given."""
    unharmed.put("http/one", request.param)
    return unharmed, request.param


def ask(store: LocalStore, method: str = "GET", **headers: str) -> Answer:
    """A request for http/one; `_` in header names is '-'."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return store.request(method, "/objects/http/one", headers=fields)


def test_every_form_of_range_gives_those_bytes(placed: tuple[LocalStore, bytes]) -> None:
    store, body = placed
    size = len(body)
    forms = {
        "bytes=0-0": body[:1],
        "bytes=2-5": body[2:6],
        "bytes=7-": body[7:],
        "bytes=-3": body[-3:],
        f"bytes=-{size * 2}": body,
        f"bytes={size - 1}-{size + 99}": body[-1:],
        f"bytes=0-{size - 1}": body,
        "Bytes = 1-2": body[1:3],
    }
    for asked, wanted in forms.items():
        answer = ask(store, Range=asked).expect(206)
        assert answer.body == wanted, asked
        assert answer.headers["Content-Length"] == str(len(wanted))
        first, last = answer.headers["Content-Range"].split()[1].split("/")[0].split("-")
        assert int(last) - int(first) + 1 == len(wanted)
    assert ask(store, Range="bytes=0-1,4-5").expect(200).body == body


def test_conditions_decide_as_the_rfc_says(placed: tuple[LocalStore, bytes]) -> None:
    store, body = placed
    whole = ask(store).expect(200)
    etag, modified = whole.headers["ETag"], whole.headers["Last-Modified"]
    at_s = parsedate_to_datetime(modified).timestamp()
    before, after = formatdate(at_s - 60, usegmt=True), formatdate(at_s + 60, usegmt=True)
    fresh = ask(store, If_None_Match=etag).expect(304)
    assert not fresh.body and fresh.headers["ETag"] == etag
    assert ask(store, If_None_Match='"x", ' + etag).status == 304
    assert ask(store, If_None_Match="*").status == 304
    assert ask(store, If_None_Match='W/"x"').expect(200).body == body
    assert ask(store, If_Modified_Since=modified).status == 304
    assert ask(store, If_Modified_Since=before).expect(200).body == body
    assert ask(store, If_None_Match='"x"', If_Modified_Since=after).status == 200
    assert ask(store, If_Match=etag).status == 200
    assert ask(store, If_Match='"x"').expect(412).code == "PreconditionFailed"
    assert ask(store, If_Unmodified_Since=before).status == 412
    assert ask(store, If_Unmodified_Since=after).status == 200
    assert ask(store, Range="bytes=1-2", If_Range=etag).expect(206).body == body[1:3]
    assert ask(store, Range="bytes=1-2", If_Range='"x"').expect(200).body == body
    assert ask(store, Range="bytes=1-2", If_Range=modified).status == 206


def test_head_is_get_without_the_body(placed: tuple[LocalStore, bytes]) -> None:
    store, body = placed
    for headers in ({}, {"Range": "bytes=3-7"}, {"Accept_Encoding": "gzip"}):
        get, head = ask(store, **headers), ask(store, "HEAD", **headers)
        assert (head.status, head.body) == (get.status, b"")
        volatile = {"Date", "X-Request-Id"}
        assert {k: v for k, v in head.headers.items() if k not in volatile} == {
            k: v for k, v in get.headers.items() if k not in volatile
        }
    assert ask(store, "HEAD").headers["Content-Length"] == str(len(body))


def test_gzip_is_given_to_who_asks_with_an_etag_of_its_own(unharmed: LocalStore) -> None:
    for body in (text(3000), text(9_000_000)):
        unharmed.put("http/one", body)
        plain = ask(unharmed).expect(200)
        packed = ask(unharmed, Accept_Encoding="gzip").expect(200)
        assert packed.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(packed.body) == body
        assert len(packed.body) < len(body) / 3
        assert packed.headers["ETag"] == plain.headers["ETag"][:-1] + '-gzip"'
        for answer in (plain, packed):
            assert "Accept-Encoding" in answer.headers["Vary"]
        assert plain.body == body and plain.headers["Content-Encoding"] is None
        cached = ask(unharmed, Accept_Encoding="gzip", If_None_Match=packed.headers["ETag"])
        assert cached.status == 304
        ranged = ask(unharmed, Accept_Encoding="gzip", Range="bytes=5-9").expect(206)
        assert ranged.body == body[5:10] and ranged.headers["Content-Encoding"] is None
        refused = ask(unharmed, Accept_Encoding="gzip;q=0").expect(200)
        assert refused.body == body


def test_headers_of_the_put_come_back(unharmed: LocalStore) -> None:
    sent = {
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Disposition": 'attachment; filename="a b.txt"',
        "Content-Language": "de",
        "Cache-Control": "max-age=60",
        "X-Oss-Meta-Colour": "blue",
    }
    unharmed.request("PUT", "/objects/http/one", body=SMALL, headers=sent).expect(200)
    answer = ask(unharmed).expect(200)
    assert {name: answer.headers[name] for name in sent} == sent


def test_conditional_puts_keep_what_somebody_else_wrote(unharmed: LocalStore) -> None:
    first = unharmed.put("http/contended", b"first")
    path = "/objects/http/contended"
    for headers in ({"If-None-Match": "*"}, {"If-Match": '"another"'}):
        answer = unharmed.request("PUT", path, body=b"mine", headers=headers)
        assert answer.expect(412).code == "PreconditionFailed"
    assert unharmed.get("http/contended") == b"first"
    right = {"If-Match": f'"{first["etag"]}"'}
    unharmed.request("PUT", path, body=b"second", headers=right).expect(200)
    unharmed.request("DELETE", path, headers=right).expect(412)
    new = unharmed.request("PUT", "/objects/http/new", body=b"new", headers={"If-None-Match": "*"})
    new.expect(200)
    unharmed.remove_for_good("http/new")


def test_versions_markers_undelete_and_removal_tell_one_story(unharmed: LocalStore) -> None:
    name = path = "/objects/http/story"
    name = path.removeprefix("/objects/")
    for number, body in enumerate((b"one", b"two", LARGE), start=1):
        assert unharmed.put(name, body)["version"] == number
    marker = unharmed.request("DELETE", path).expect(204)
    assert marker.headers["X-Version"] == "4"
    assert unharmed.request("GET", path).expect(404).code == "NoSuchKey"
    assert unharmed.request("HEAD", path).status == 404
    assert unharmed.request("GET", f"{path}?version=4").expect(404).code == "NoSuchKey"
    assert unharmed.request("GET", f"{path}?version=2").expect(200).body == b"two"
    assert [(v["Version"], v["Size"]) for v in versions(unharmed, name)] == [
        (1, 3),
        (2, 3),
        (3, len(LARGE)),
        (4, 0),
    ]
    assert versions(unharmed, name)[-1]["Hash"] == ""
    assert unharmed.request("POST", f"{path}?undelete=1").expect(200).json()["version"] == 3
    assert unharmed.get(name) == LARGE

    unharmed.request("DELETE", f"{path}?version=3").expect(204)
    assert unharmed.get(name) == b"two"
    assert unharmed.request("GET", f"{path}?version=3").expect(404).code == "NoSuchVersion"
    assert unharmed.put(name, b"five")["version"] > 4  # a number is never used again
    by_id = unharmed.request("GET", path).headers["X-Version-Id"]
    assert unharmed.request("GET", f"{path}?version_id={by_id}").expect(200).body == b"five"
    unharmed.request("DELETE", f"{path}?version_id={by_id}").expect(204)
    assert unharmed.get(name) == b"two"
    unharmed.remove_for_good(name)
    assert versions(unharmed, name) == []
    assert unharmed.request("POST", f"{path}?undelete=1").expect(404).code == "NoSuchKey"


KEYS = ["a", "b/1", "b/2", "b/c/3", "b!", "d/", "d/e", "ä/ö", "z 1", "z%2"]


@pytest.fixture
def bucket(unharmed: LocalStore) -> Iterator[LocalStore]:
    """A store with a bucket `listing` that holds KEYS."""
    unharmed.request("PUT", "/buckets/listing").expect(201)
    for key in KEYS:
        path = f"/buckets/listing/objects/{quote(key)}"
        unharmed.request("PUT", path, body=key.encode()).expect(200)
    yield unharmed
    for key in KEYS:
        path = f"/buckets/listing/objects/{quote(key)}"
        found = unharmed.request("HEAD", path).headers["X-Version"]
        unharmed.request("DELETE", f"{path}?version={found}").expect(204)
    unharmed.request("DELETE", "/buckets/listing").expect(204)


def listing(store: LocalStore, prefix: str, delimiter: str, limit: int) -> tuple[list[str], ...]:
    """All pages of a listing: keys and common prefixes."""
    keys, prefixes, after = [], [], ""
    for _ in range(100):
        query = f"prefix={quote(prefix)}&delimiter={quote(delimiter)}"
        query += f"&after={quote(after)}&limit={limit}"
        page = store.request("GET", f"/buckets/listing/objects?{query}").expect(200).json()
        assert len(page["objects"]) + len(page["prefixes"]) <= limit
        keys += [each["key"] for each in page["objects"]]
        prefixes += page["prefixes"]
        if page["next"] is None:
            return keys, prefixes
        after = page["next"]
    raise AssertionError("the listing does not end")


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
def test_listings_page_through_everything_once(bucket: LocalStore, limit: int) -> None:
    ordered = sorted(KEYS, key=str.encode)
    for prefix in ("", "b", "b/", "d/", "z", "nothing"):
        below = [key for key in ordered if key.startswith(prefix)]
        assert listing(bucket, prefix, "", limit) == (below, [])
        rests = {key: key[len(prefix) :].partition("/") for key in below}
        flat = [key for key, (_, slash, _) in rests.items() if not slash]
        folders = sorted({prefix + r[0] + "/" for r in rests.values() if r[1]}, key=str.encode)
        assert listing(bucket, prefix, "/", limit) == (flat, folders), prefix


def test_an_entry_of_a_listing_describes_its_object(bucket: LocalStore) -> None:
    page = bucket.request("GET", "/buckets/listing/objects?prefix=a").expect(200).json()
    (entry,) = page["objects"]
    object_ = bucket.request("HEAD", "/buckets/listing/objects/a").expect(200)
    assert entry["size"] == 1 and str(entry["version"]) == object_.headers["X-Version"]
    assert entry["etag"] == object_.headers["ETag"].strip('"') == sha256(b"a").hexdigest()
    assert entry["version_id"] == object_.headers["X-Version-Id"]
    assert entry["modified"].endswith("Z")


def test_a_bucket_that_holds_something_stays(bucket: LocalStore) -> None:
    assert bucket.request("DELETE", "/buckets/listing").expect(409).code == "BucketNotEmpty"
    names = [b["name"] for b in bucket.request("GET", "/buckets").expect(200).json()["buckets"]]
    assert "listing" in names


def test_versions_of_all_names_are_paged_and_come_as_lines_or_array(unharmed: LocalStore) -> None:
    for body in (b"1", b"2", b"3"):
        unharmed.put("http/paged", body)
    lines = unharmed.request("GET", "/versions/http/paged")
    assert lines.headers["Content-Type"] == "application/x-ndjson"
    array = unharmed.request("GET", "/versions/http/paged", headers={"Accept": "application/json"})
    assert array.json() == [json.loads(line) for line in lines.body.splitlines()]
    whole = unharmed.request("GET", "/versions/", headers={"Accept": "application/json"}).json()
    found, path = [], "/versions/?limit=4"
    while path:
        page = unharmed.request("GET", path, headers={"Accept": "application/json"}).expect(200)
        found += page.json()
        path = (page.headers["Link"] or "").partition(">")[0].removeprefix("<")
    assert sorted(map(str, found)) == sorted(map(str, whole))
    unharmed.remove_for_good("http/paged")


def test_locate_names_the_daemons_that_hold_each_shard(unharmed: LocalStore) -> None:
    unharmed.put("http/one", LARGE)
    digest = sha256(LARGE).hexdigest()
    blobs = {blob["http"].removeprefix("http://") for blob in unharmed.facts()["blobs"]}
    first = unharmed.request("GET", "/locate/http/one").expect(200).json()
    assert sorted(first) == ["0", "1", "2", "3", "4", "5"]
    assert set(first.values()) == blobs  # six shards on six daemons
    assert unharmed.request("GET", f"/locate/{digest}").expect(200).json() == first
    every = unharmed.request("GET", "/locate/http/one?all=1").expect(200).json()["stripes"]
    assert [each["start"] for each in every] == [0, 8 << 20]
    assert sum(each["length"] for each in every) == len(LARGE)


def test_a_name_wins_over_a_hash_in_locate(unharmed: LocalStore) -> None:
    digest = sha256(LARGE).hexdigest()
    unharmed.put("http/one", LARGE)
    unharmed.put(digest, b"an object whose name looks like a hash")
    by_name = unharmed.request("GET", f"/locate/{digest}").expect(200)
    assert len(by_name.json()) == 3
    unharmed.remove_for_good(digest)
    assert len(unharmed.request("GET", f"/locate/{digest}").expect(200).json()) == 6


def test_the_metrics_are_those_of_the_documentation(unharmed: LocalStore) -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    documented = set(re.findall(r"`(oss_\w+)[`{]", page)) - {
        "oss_moved_",
        "oss_lifecycle_",
        "oss_reencoded_",
    }
    others = "".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    assert set(re.findall(r"`(oss_\w*[a-z])[`{]", others)) <= documented

    def told() -> set[str]:
        found: set[str] = set()
        for node in unharmed.nodes():
            address = (node.get("api") or node["http"]).removeprefix("http://")
            answer = unharmed.request("GET", "/metrics", address=address, anonymous=True)
            types = re.findall(r"^# TYPE (oss_\w+) ", answer.expect(200).body.decode(), re.M)
            found |= {name for name in types if not name.endswith("_created")}
        return found

    wait_for(lambda: told() == documented, what=f"{told() ^ documented} to agree")


def test_every_role_answers_health_and_metrics_and_tells_no_secret(unharmed: LocalStore) -> None:
    facts = unharmed.facts()
    for node in unharmed.nodes():
        address = (node.get("api") or node["http"]).removeprefix("http://")
        for path in ("/livez", "/healthz", "/readyz?verbose"):
            unharmed.request("GET", path, address=address, anonymous=True).expect(200)
        metrics = unharmed.request("GET", "/metrics", address=address, anonymous=True).expect(200)
        assert b"oss_request_seconds" in metrics.body, node["id"]
        assert facts["root_secret_key"].encode() not in metrics.body
    status = unharmed.request("GET", "/v1/status", anonymous=True).expect(200).json()
    assert (status["id"], status["role"]) == ("frontend-1", "frontend")
    logs = b"".join(path.read_bytes() for path in unharmed.log_sizes())
    secrets = [facts["root_secret_key"], facts["system_token"]]
    secrets.append((unharmed.folder / "secret").read_text().strip())
    assert not [secret for secret in secrets if secret.encode() in logs]
