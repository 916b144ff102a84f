"""What was uploaded: downloading, asking about it, removing it."""

from pathlib import Path

import pytest

from frontend.flows.files import upload_id
from osscore.model import STRIPE_BYTES_MAX
from raftmeta.queries import ListVersions, VersionsListed
from tests.fakes.meta import URLS
from tests.frontend.harness import random_bytes
from tests.frontend.rest.keys_at_hand import audited, make_key
from tests.frontend.tokens.client import SYSTEM, TokenApi, hash_of, run

SMALL = b"hello world"
LONG = random_bytes(STRIPE_BYTES_MAX + 300_000, seed=8)


@pytest.mark.parametrize("body", [SMALL, LONG])
def test_head_has_the_headers_of_get_and_they_are_safe(tmp_path: Path, body: bytes) -> None:
    async def story(api: TokenApi) -> None:
        await api.single(body, "naïve.html")
        token = await api.token("download", body)
        got = await api("GET", "/download", token=token)
        head = await api("HEAD", "/download", token=token)
        assert (got.status, got.body, head.status, head.body) == (200, body, 200, b"")
        for answer in (got, head):
            assert answer.headers["ETag"] == f'"{hash_of(body)}"'
            assert answer.headers["Content-Length"] == str(len(body))
            assert answer.headers["Accept-Ranges"] == "bytes"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Content-Disposition"] == (
                "attachment; filename=\"na_ve.html\"; filename*=UTF-8''na%C3%AFve.html"
            )
            assert "sandbox" in answer.headers["Content-Security-Policy"]

    run(tmp_path, story)


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=3-", 3, len(LONG) - 1),
        ("bytes=-5", len(LONG) - 5, len(LONG) - 1),
        (
            f"bytes={STRIPE_BYTES_MAX - 1}-{STRIPE_BYTES_MAX}",
            STRIPE_BYTES_MAX - 1,
            STRIPE_BYTES_MAX,
        ),
        (f"bytes=10-{10**12}", 10, len(LONG) - 1),
    ],
)
def test_a_range_is_that_part(tmp_path: Path, asked: str, first: int, last: int) -> None:
    async def story(api: TokenApi) -> None:
        await api.single(LONG)
        tag = f'"{hash_of(LONG)}"'
        for more in ({}, {"If-Range": tag}):
            part = await api.download(LONG, Range=asked, **more)
            assert (part.status, part.body) == (206, LONG[first : last + 1])
            assert part.headers["Content-Range"] == f"bytes {first}-{last}/{len(LONG)}"
        whole = await api.download(LONG, Range=asked, **{"If-Range": '"another"'})
        assert (whole.status, whole.body) == (200, LONG)

    run(tmp_path, story)


def test_a_resumed_download_is_the_file(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        await api.single(LONG)
        got = b""
        while len(got) < len(LONG):
            part = await api.download(LONG, Range=f"bytes={len(got)}-{len(got) + 3_000_000}")
            got += part.body
        assert got == LONG

    run(tmp_path, story)


def test_conditions_and_ranges_that_fail(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        await api.single(SMALL)
        token = await api.token("download", SMALL)
        for tag in (
            f'"{hash_of(SMALL)}"',
            f'W/"{hash_of(SMALL)}"',
            "*",
            f'"x", "{hash_of(SMALL)}"',
        ):
            fresh = await api("GET", "/download", token=token, headers={"If-None-Match": tag})
            assert (fresh.status, fresh.body) == (304, b"")
        other = await api("GET", "/download", token=token, headers={"If-None-Match": '"x"'})
        assert other.status == 200
        beyond = {"Range": "bytes=11-"}
        answer = await api.refused(416, 5549, "GET", "/download", token=token, headers=beyond)
        assert answer.headers["Content-Range"] == "bytes */11"
        failed = {"If-Match": '"x"'}
        await api.refused(412, 5549, "GET", "/download", token=token, headers=failed)

    run(tmp_path, story)


def test_a_download_is_never_encoded(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        await api.single(b"text " * 100_000)
        got = await api.download(b"text " * 100_000, **{"Accept-Encoding": "gzip"})
        assert "Content-Encoding" not in got.headers
        assert got.headers["Content-Length"] == "500000"

    run(tmp_path, story)


def test_a_link_carries_its_token(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        await api.single(SMALL)
        token = await api.token("download", SMALL)
        assert (await api("GET", f"/download?token={token}")).body == SMALL
        bearer = {"Authorization": f"Bearer {token}"}
        assert (await api("GET", "/download", headers=bearer)).body == SMALL
        await api.refused(401, 5531, "GET", "/download?token=x")
        # Only a download may be a link: others must not be made by following one.
        upload = await api.token("upload", SMALL)
        await api.refused(401, 5531, "POST", f"/upload/single?token={upload}")
        await api.refused(401, 5531, "GET", f"/file/info?token={token}", system=SYSTEM)

    run(tmp_path, story)


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        for _ in range(2):  # without the bucket, and with it
            token = await api.token("download", SMALL)
            await api.refused(404, 5547, "GET", "/download", token=token)
            more = {"token": token, "system": SYSTEM}
            await api.refused(404, 5547, "GET", "/file/info", **more)
            await api.refused(404, 5547, "DELETE", "/file", **more)
            await api.single(b"another")

    run(tmp_path, story)


def test_file_info(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        for body, hosts in (
            (SMALL, {url.split("/")[2].split(":")[0] for url in URLS}),
            (LONG, set(api.api.world.nodes)),
        ):
            await api.single(body, "f.bin")
            token = await api.token("download", body)
            info = await api.data("GET", "/file/info", token=token, system=SYSTEM)
            now_s = api.api.world.clock.now_ms() // 1000
            assert now_s - 60 <= info.pop("create_time") <= now_s + 1
            assert set(info.pop("server_ip")) == hosts
            assert info == {"size": len(body), "name": "f.bin", "hash": hash_of(body)}

    run(tmp_path, story)


def test_a_file_of_the_native_api_is_one_as_well(tmp_path: Path) -> None:
    path = f"/buckets/files/objects/{hash_of(SMALL)}"

    async def story(api: TokenApi) -> None:
        await api.api("PUT", "/buckets/files")
        headers = {"Content-Type": "text/html", "Content-Disposition": 'inline; filename="a.html"'}
        await api.api("PUT", path, data=SMALL, headers=headers)
        got = await api.download(SMALL)
        assert (got.body, got.headers["Content-Type"]) == (SMALL, "text/html")
        assert got.headers["Content-Disposition"] == 'attachment; filename="a.html"'
        await api.api("DELETE", path)  # a marker hides it
        assert (await api.download(SMALL)).status == 404
        assert (await api.single(SMALL)).status == 200
        assert (await api.download(SMALL)).body == SMALL

    run(tmp_path, story)


def test_a_removed_file_is_gone_for_good_and_may_come_again(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        path = f"/buckets/files/objects/{hash_of(LONG)}"
        half = len(LONG) // 2
        for attempt in range(2):
            token = await api.token("upload", LONG)
            await api.chunk(token, 0, LONG[:half])
            answer = await api.chunk(token, 1, LONG[half:])
            assert answer.json["data"]["received"] == [0, 1], attempt
            assert (await api.finish(token)).status == 200
            assert (await api.download(LONG)).body == LONG
            await api.api("PUT", path, data=LONG)
            await api.api("DELETE", path)
            await api.api("PUT", path, data=LONG)
            removed = await api.data("DELETE", "/file", token=token, system=SYSTEM)
            assert removed == {"status": "success"}
            assert (await api.download(LONG)).status == 404
            listed = await api.api.world.meta.query(ListVersions(bucket="files"), VersionsListed)
            assert listed.versions == ()
            await api.refused(404, 5547, "DELETE", "/file", token=token, system=SYSTEM)
            # What was finished once is no excuse for finishing without chunks now.
            unfinished = await api.finish(token)
            assert (unfinished.status, unfinished.json["code"]) == (422, 5543)
        assert (await api.single(LONG)).status == 200
        assert (await api.download(LONG)).body == LONG

    run(tmp_path, story)


def test_removing_takes_chunks_with_it(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        token = await api.token("upload", LONG)
        await api.chunk(token, 0, LONG[:1000])
        await api.single(LONG)
        await api.data("DELETE", "/file", token=token, system=SYSTEM)
        again = await api.chunk(token, 5, LONG[:1000])
        assert again.json["data"]["received"] == [5]

    run(tmp_path, story)


def test_removing_what_is_no_file_leaves_the_chunks_of_an_upload_alone(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        token = await api.token("upload", LONG)
        await api.chunk(token, 0, LONG[:STRIPE_BYTES_MAX])
        await api.refused(404, 5547, "DELETE", "/file", token=token, system=SYSTEM)
        held = await api.chunk(token, 1, LONG[STRIPE_BYTES_MAX:])
        assert held.json["data"]["received"] == [0, 1]
        assert (await api.finish(token)).status == 200
        assert (await api.download(LONG)).body == LONG

    run(tmp_path, story)


def test_who_removes_a_file_is_audited_and_a_file_that_is_not_there_is_not(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        own = await make_key(api.api, "own", "delete", buckets=("files",))
        path = f"/buckets/files/objects/{hash_of(SMALL)}"
        token = await api.token("upload", SMALL)
        await api.refused(404, 5547, "DELETE", "/file", token=token, system=SYSTEM)
        for who in ({"system": SYSTEM}, {"auth": own}):
            await api.single(SMALL)
            again = await api.api("PUT", path, data=SMALL)  # one row, of however many versions
            assert again.json["version"] % 2 == 0
            await api.data("DELETE", "/file", token=token, **who)
        rows = [row for row in await audited(api.api) if row.action != "system-token.set"]
        assert [(row.actor, row.action, row.target, row.outcome) for row in rows] == [
            ("system", "file.remove", hash_of(SMALL), "done"),
            ("own", "file.remove", hash_of(SMALL), "done"),
        ]
        assert all(row.source and row.request_id for row in rows)

    run(tmp_path, story)


def test_uploads_of_two_files_do_not_meet() -> None:
    ids = {upload_id(bytes([n]) * 32) for n in range(100)}
    assert len(ids) == 100 and {len(each) for each in ids} == {16}


@pytest.mark.parametrize(
    ("method", "path", "kind", "scope"),
    [
        ("GET", "/file/info", "download", "info"),
        ("DELETE", "/file", "upload", "delete"),
        ("GET", "/upload/finish?file_name=f", "upload", "upload"),
    ],
)
def test_the_calling_system_proves_itself(
    tmp_path: Path, method: str, path: str, kind: str, scope: str
) -> None:
    async def story(api: TokenApi) -> None:
        await api.single(SMALL)
        token = await api.token(kind, SMALL)
        await api.refused(401, 5533, method, path, token=token)
        await api.refused(401, 5533, method, path)
        await api.refused(401, 5533, method, path, token=token, system="x" * 20)
        await api.refused(401, 5531, method, path, system=SYSTEM)
        bearer = {"Authorization": f"Bearer {token}"}
        await api.refused(401, 5533, method, path, headers=bearer)
        others = [s for s in ("upload", "download", "info", "delete") if s != scope]
        denied = await make_key(api.api, "denied", *others)
        await api.refused(403, 5533, method, path, token=token, auth=denied)
        elsewhere = await make_key(api.api, "elsewhere", scope, buckets=("objects",))
        await api.refused(403, 5533, method, path, token=token, auth=elsewhere)
        other_files = await make_key(api.api, "other-files", scope, prefixes=("00",))
        await api.refused(403, 5533, method, path, token=token, auth=other_files)
        await api.refused(401, 5533, method, path, token=token, auth=("denied", "wrong"))
        right = await make_key(api.api, "right", scope, buckets=("files",))
        assert (await api(method, path, token=token, auth=right)).status == 200

    run(tmp_path, story)
