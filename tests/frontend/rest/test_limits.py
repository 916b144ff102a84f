"""What a limited key may: every verb with names inside and outside of its limits."""

import base64
import hashlib
from pathlib import Path

import msgspec

from raftmeta.access import ADMIN, DELETE, DOWNLOAD, INFO, UPLOAD
from raftmeta.wire import QUERY
from tests.frontend.rest.keys_at_hand import audited, make_key
from tests.frontend.rest.serving import Api, run


def test_a_key_limited_to_prefixes_sees_and_touches_nothing_else(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        for name in ("mine/a", "other"):
            await api("PUT", f"/objects/{name}", data=b"x")
        own = await make_key(
            api, "own", UPLOAD, DOWNLOAD, INFO, DELETE, buckets=("objects",), prefixes=("mine/",)
        )
        allowed = [
            ("PUT", "/objects/mine/b"),
            ("GET", "/objects/mine/a"),
            ("HEAD", "/objects/mine/a?version=1"),
            ("DELETE", "/objects/mine/a"),
            ("POST", "/objects/mine/a?undelete=1"),
            ("GET", "/buckets/objects/objects?prefix=mine/"),
            ("GET", "/buckets/objects/objects?prefix=mine/a"),
            ("GET", "/objects?prefix=mine/"),
            ("GET", "/buckets/objects/versions/mine/a"),
            ("GET", "/buckets/objects/versions?prefix=mine/"),
            ("GET", "/versions/mine/a"),
            ("GET", "/locate/mine/a"),
            ("GET", "/buckets/objects"),
            ("POST", "/v1/maintenance/prune?key=mine/a"),
            ("POST", "/v1/maintenance/prune?prefix=mine/"),
        ]
        for method, path in allowed:
            answer = await api(method, path, auth=own)
            assert answer.status in (200, 204), (method, path, answer.body)
        denied = [
            ("PUT", "/objects/other"),
            ("PUT", "/objects/mine"),
            ("GET", "/objects/other"),
            ("HEAD", "/objects/other"),
            ("DELETE", "/objects/other"),
            ("DELETE", "/objects/other?version=1"),
            ("POST", "/objects/other?undelete=1"),
            ("GET", "/buckets/objects/objects"),
            ("GET", "/buckets/objects/objects?prefix=mine"),
            ("GET", "/objects/"),
            ("GET", "/buckets/objects/versions/other"),
            ("GET", "/buckets/objects/versions?prefix="),
            ("GET", "/versions/"),
            ("GET", "/versions/other"),
            ("GET", "/locate/other"),
            ("GET", "/buckets/bucket"),
            ("GET", "/buckets/bucket/objects/mine/a"),
            ("POST", "/v1/maintenance/prune"),
            ("POST", "/v1/maintenance/prune?key=other"),
            ("PUT", "/buckets/objects"),
            ("DELETE", "/buckets/objects"),
        ]
        for method, path in denied:
            assert (await api(method, path, auth=own)).status == 403, (method, path)

    run(tmp_path, story)


def test_a_limited_key_finds_nothing_by_its_hash(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        sha256 = (await api("PUT", "/objects/other", data=b"secret")).json["sha256"]
        own = await make_key(api, "own", INFO, prefixes=(sha256[:4],))
        assert (await api("GET", f"/locate/{sha256}")).status == 200
        assert (await api("GET", f"/locate/{sha256}", auth=own)).status == 404

    run(tmp_path, story)


def test_known_content_is_no_way_around_a_limit(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        secret = b"secret" * 2000
        await api("PUT", "/objects/secret/x", data=secret)
        digest = base64.b64encode(hashlib.sha256(secret).digest()).decode()
        headers = {"Digest": f"SHA-256={digest}", "Size": str(len(secret))}
        limited = await make_key(api, "limited", UPLOAD, DOWNLOAD, prefixes=("a/",))
        writer = await make_key(api, "writer", UPLOAD)
        for auth in (limited, writer):
            answer = await api("POST", "/objects/a/stolen", headers=headers, auth=auth)
            assert answer.status == 201, "it need not be told, and must bring the bytes"
        assert (await api("GET", "/objects/a/stolen", auth=limited)).status == 404
        reader = await make_key(api, "reader", UPLOAD, DOWNLOAD)
        assert (await api("POST", "/objects/a/own", headers=headers, auth=reader)).status == 200

    run(tmp_path, story)


def test_an_admin_of_one_bucket_has_no_other(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        own = await make_key(api, "own", ADMIN, buckets=("mine",))
        assert (await api("PUT", "/buckets/mine", auth=own)).status == 201
        assert (await api("PUT", "/buckets/other", auth=own)).status == 403
        prefixed = await make_key(api, "prefixed", ADMIN, prefixes=("a",))
        assert (await api("DELETE", "/buckets/mine", auth=prefixed)).status == 403
        assert (await api("DELETE", "/buckets/mine", auth=own)).status == 204

    run(tmp_path, story)


def test_what_is_done_to_buckets_is_audited(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        headers = {"X-Request-Id": "my-request"}
        await api("PUT", "/buckets/audited?profile=2+1", headers=headers)
        await api("PUT", "/buckets/audited")
        await api("PATCH", "/buckets/audited?keep_versions=3")
        await api("PATCH", "/buckets/audited?expire_after_s=60")
        await api("DELETE", "/buckets/audited")
        rows = await audited(api)
        assert [(row.action, row.target, row.detail, row.outcome) for row in rows] == [
            ("bucket.create", "audited", "2+1", "done"),
            ("bucket.create", "audited", "", "BucketAlreadyExists"),
            ("bucket.change", "audited", "keep_versions=3", "done"),
            ("bucket.change", "audited", "expire_after_s=60", "done"),
            ("bucket.remove", "audited", "", "done"),
        ]
        assert {row.actor for row in rows} == {"root"}
        assert (rows[0].request_id, rows[0].source) == ("my-request", "127.0.0.1")

    run(tmp_path, story)


def test_who_may_not_is_told_so_whatever_there_is(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        own = await make_key(api, "own", DOWNLOAD, prefixes=("mine/",))
        await api("PUT", "/objects/other", data=b"x")
        for path in ("/objects/other", "/objects/missing", "/buckets/no-such/objects/x"):
            for method in ("GET", "HEAD"):
                assert (await api(method, path, auth=own)).status == 403
                assert (await api(method, path, auth=None)).status == 401
                assert (await api(method, path, auth=("own", "wrong"))).status == 401

    run(tmp_path, story)


def test_a_read_and_its_check_are_one_request_to_the_catalog(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        await api("PUT", "/objects/k", data=b"x")
        world, paths = api.world, []
        answer = world.meta_rpc.answer

        def counting(path: str, body: bytes) -> msgspec.Struct:
            paths.append(path)
            return answer(path, body)

        world.meta_rpc.answer = counting  # type: ignore[method-assign]
        assert (await api("GET", "/objects/k")).status == 200
        assert paths.count(QUERY) == 1

    run(tmp_path, story)
