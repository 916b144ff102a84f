"""Uploads of several requests over HTTP: POST /objects, then /temp; and bodies that wait."""

import asyncio
import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest

from blobd.temp.records import temp_id
from osscore.model import STRIPE_BYTES_MAX
from ossd.clock import system_random
from ossd.signing import seal
from raftmeta.commands import Collect, Collected, Done
from raftmeta.credentials import PutAccessKey, RevokeAccessKey
from tests.frontend.harness import CATALOG_KEY, random_bytes
from tests.frontend.rest.serving import Answer, Api, run

MIB = 1 << 20
BODY = random_bytes(3 * MIB, seed=3)
UNKNOWN = "A" * 43


def digest_of(body: bytes) -> str:
    return "SHA-256=" + base64.b64encode(hashlib.sha256(body).digest()).decode()


async def begin(api: Api, body: bytes = BODY, name: str = "k", **headers: str) -> Answer:
    given = {"Digest": digest_of(body), "Size": str(len(body)), **headers}
    return await api("POST", f"/objects/{name}", headers=given)


async def add(api: Api, where: str, part: bytes, offset: int, **more: Any) -> Answer:
    return await api("PUT", where, data=part, headers={"Range": f"bytes={offset}-"}, **more)


async def held(api: Api, where: str) -> int:
    answer = await api("HEAD", where)
    assert answer.status == 200, answer
    assert answer.headers["Content-Length"] == answer.headers["Upload-Offset"]
    return int(answer.headers["Upload-Offset"])


async def get(api: Api, name: str = "k") -> bytes:
    answer = await api("GET", f"/objects/{name}")
    assert answer.status == 200, answer
    return answer.body


# --- resumable uploads -----------------------------------------------------------------------


def test_a_body_arrives_in_pieces_at_offsets(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        begun = await begin(api, **{"Content-Type": "text/x", "X-Oss-Meta-A": "b"})
        where = begun.headers["Location"]
        assert begun.status == 201 and where.startswith("/temp/")
        assert await held(api, where) == 0
        partly = await add(api, where, BODY[:MIB], 0)
        assert (partly.status, partly.json) == (200, {"upload_offset": MIB, "size": len(BODY)})
        assert await held(api, where) == MIB
        assert (await api("GET", "/objects/k")).status == 404
        last = await add(api, where, BODY[MIB:], MIB)
        assert (last.status, last.json["version"]) == (200, 1)
        assert last.json["sha256"] == hashlib.sha256(BODY).hexdigest()
        answer = await api("GET", "/objects/k")
        assert answer.body == BODY
        assert answer.headers["Content-Type"] == "text/x"
        assert answer.headers["X-Oss-Meta-A"] == "b"
        # The answer may have been lost: the same end again is the same version.
        assert await held(api, where) == len(BODY)
        again = await add(api, where, b"", len(BODY))
        assert (again.status, again.json["version"]) == (200, 1)

    run(tmp_path, story)


def test_upload_offset_is_as_good_as_a_range(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        where = (await begin(api)).headers["Location"]
        for offset in (0, MIB, 2 * MIB):
            answer = await api(
                "PUT",
                where,
                data=BODY[offset : offset + MIB],
                headers={"Upload-Offset": str(offset)},
            )
            assert answer.status == 200
        assert await get(api) == BODY

    run(tmp_path, story)


def test_a_wrong_offset_is_told_the_right_one(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        where = (await begin(api)).headers["Location"]
        await add(api, where, BODY[:100], 0)
        for offset in (0, 99, 101, len(BODY), 1 << 70):
            answer = await add(api, where, BODY[100:], offset)
            assert answer.status == 416, offset
            assert answer.headers["Upload-Offset"] == "100"
            assert answer.headers["Content-Range"] == "bytes */100"
        for text in ("bytes=-5", "lines=3-", "bytes=x-"):
            answer = await api("PUT", where, data=b"x", headers={"Range": text})
            assert answer.status == 400, text
        for text in ("-1", "x", "", "1" * 40):
            answer = await api("PUT", where, data=b"x", headers={"Upload-Offset": text})
            assert answer.status == 400, text
        assert await held(api, where) == 100

    run(tmp_path, story)


@pytest.mark.parametrize(
    "headers",
    [
        {"Upload-Offset": "0", "Range": "bytes=3-"},
        {"Range": "bytes=0-5"},
        {"Content-Range": "bytes 100-109/*"},
        {"Content-Range": f"bytes 0-9/{len(BODY) + 1}"},
        {"Content-Range": "bytes 0-8/*"},
        {"Content-Range": "0-9"},
    ],
)
def test_headers_that_contradict_each_other_or_the_body_are_refused(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    async def story(api: Api) -> None:
        where = (await begin(api)).headers["Location"]
        answer = await api("PUT", where, data=BODY[:10], headers=headers)
        assert answer.status == (416 if "100-109" in str(headers) else 400)
        assert await held(api, where) == 0
        agreeing = {"Range": "bytes=0-9", "Content-Range": f"bytes 0-9/{len(BODY)}"}
        assert (await api("PUT", where, data=BODY[:10], headers=agreeing)).status == 200

    run(tmp_path, story)


def test_more_than_the_size_is_refused(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        where = (await begin(api)).headers["Location"]
        assert (await add(api, where, BODY + b"x", 0)).status == 413
        await add(api, where, BODY[:MIB], 0)
        beyond = await add(api, where, BODY, MIB)
        assert (beyond.status, beyond.headers["Upload-Offset"]) == (413, str(MIB))
        assert await held(api, where) == MIB
        assert (await add(api, where, BODY[MIB:], MIB)).status == 200

    run(tmp_path, story)


def test_other_content_than_declared_is_422_and_no_version(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        where = (await begin(api)).headers["Location"]
        assert (await add(api, where, bytes(MIB), 0)).status == 200
        assert (await add(api, where, BODY[MIB:], MIB)).status == 422
        assert (await api("HEAD", where)).status == 404
        assert (await api("GET", "/objects/k")).status == 404

    run(tmp_path, story)


def test_known_content_is_a_version_at_once(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        await api("PUT", "/objects/first", data=BODY)
        answer = await begin(api, name="second")
        assert (answer.status, answer.json["version"]) == (200, 1)
        assert await get(api, "second") == BODY
        # In another bucket it is not: a hash alone must not open what lies elsewhere.
        await api("PUT", "/buckets/other")
        headers = {"Digest": digest_of(BODY), "Size": str(len(BODY))}
        answer = await api("POST", "/buckets/other/objects/k", headers=headers)
        assert answer.status == 201

    run(tmp_path, story)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Digest": digest_of(BODY)}, 400),
        ({"Size": "5"}, 400),
        ({"Digest": "SHA-256=short", "Size": "5"}, 400),
        ({"Digest": digest_of(BODY), "Size": "-1"}, 400),
        ({"Digest": digest_of(BODY), "Size": "5.0"}, 400),
        ({"Digest": digest_of(BODY), "Size": "9" * 30}, 400),
        ({"Digest": digest_of(BODY), "Size": "9" * 18}, 413),
        ({"Digest": digest_of(BODY), "Size": "5", "If-Match": '"x"'}, 412),
    ],
)
def test_an_upload_that_cannot_be_is_not_begun(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    async def story(api: Api) -> None:
        assert (await api("POST", "/objects/k", headers=headers)).status == status
        assert (await api("POST", "/objects/k", headers=headers, auth=None)).status == 401

    run(tmp_path, story)


@pytest.mark.parametrize("size_bytes", [0, 1, 5, 4096, 4097, STRIPE_BYTES_MAX + 1])
def test_sizes_in_two_halves(tmp_path: Path, size_bytes: int) -> None:
    body = random_bytes(size_bytes, seed=size_bytes)

    async def story(api: Api) -> None:
        where = (await begin(api, body)).headers["Location"]
        half = size_bytes // 2
        if half:
            await add(api, where, body[:half], 0)
        assert (await add(api, where, body[half:], half)).status == 200
        assert await get(api) == body

    run(tmp_path, story)


def test_what_came_before_the_client_left_is_kept(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        where = (await begin(api)).headers["Location"]
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        head = f"PUT {where} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n"
        writer.write(head.encode() + BODY[: 2 * MIB])
        await writer.drain()
        writer.close()
        async with asyncio.timeout(20):
            while not (offset := await held(api, where)):  # noqa: ASYNC110  a server is waited for
                await asyncio.sleep(0.05)
        assert offset <= 2 * MIB
        assert (await add(api, where, BODY[offset:], offset)).status == 200
        assert await get(api) == BODY
        del reader

    run(tmp_path, story)


def test_forged_handles_are_403_and_unknown_ones_404(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        where = (await begin(api)).headers["Location"]
        handle = where.removeprefix("/temp/")
        forged = [handle[:-1], handle[1:], handle[:-1] + ("A" if handle[-1] != "A" else "B")]
        forged += [UNKNOWN, "x", "%00", "..%2f..", "a" * 5000, handle + "%0a"]
        for text in forged:
            for method in ("HEAD", "PUT", "PATCH", "DELETE"):
                answer = await api(method, f"/temp/{text}")
                assert answer.status in (400, 403), (method, text)
        assert (await api("DELETE", where)).status == 204
        for method in ("HEAD", "PUT", "PATCH", "DELETE"):
            assert (await api(method, where)).status == 404, method

    run(tmp_path, story)


def test_a_handle_is_enough_but_wrong_credentials_are_told(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        where = (await begin(api)).headers["Location"]
        assert (await add(api, where, BODY[:MIB], 0, auth=None)).status == 200
        assert (await add(api, where, BODY[MIB:], MIB, auth=("root", "wrong"))).status == 401
        assert (await add(api, where, BODY[MIB:], MIB, auth=None)).status == 200

    run(tmp_path, story)


def test_an_upload_dies_with_the_key_that_began_it(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        key = PutAccessKey(
            access_key="APP",
            secret_sealed=seal(CATALOG_KEY, b"app-secret", system_random),
            scopes=("upload",),
        )
        await api.world.meta.propose(key, Done)
        headers = {"Digest": digest_of(BODY), "Size": str(len(BODY))}
        begun = await api("POST", "/objects/k", headers=headers, auth=("APP", "app-secret"))
        assert begun.status == 201
        await api.world.meta.propose(RevokeAccessKey(access_key="APP"), Done)
        assert (await add(api, begun.headers["Location"], BODY, 0, auth=None)).status == 403
        await api.world.meta.propose(key, Done)  # a key of its own, whoever had that id before
        assert (await add(api, begun.headers["Location"], BODY, 0, auth=None)).status == 403
        assert (await api("GET", "/objects/k")).status == 404
        anew = await api("POST", "/objects/k", headers=headers, auth=("APP", "app-secret"))
        assert (await add(api, anew.headers["Location"], BODY, 0, auth=None)).status == 200

    run(tmp_path, story)


def test_what_a_blob_daemon_took_is_asked_for_there(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        where = "/temp/" + temp_id(b"0123456789").hex()
        answer = await api("PATCH", where, auth=None)
        assert (answer.status, answer.json["error"]["code"]) == (404, "NoSuchUpload")
        assert "ask the daemon that took it" in answer.json["error"]["message"]
        assert (await api("PATCH", where[:-1], auth=None)).status == 403

    run(tmp_path, story)


# --- bodies that wait for their confirmation ---------------------------------------------------


def test_a_body_waits_unseen_until_it_is_confirmed(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        posted = await api("POST", "/temp/a%2Fb c".replace(" ", "%20"), data=BODY)
        sha256 = hashlib.sha256(BODY).hexdigest()
        assert posted.status == 201
        assert (posted.json["sha256"], posted.json["size"]) == (sha256, len(BODY))
        assert posted.json["expires_at"].endswith("Z")
        assert (await api("GET", "/objects/a/b%20c")).status == 404
        where = f"/temp/{posted.json['id']}"
        assert await held(api, where) == len(BODY)
        named = {"name": "a/b c", "version": 1, "sha256": sha256, "size": len(BODY)}
        for body in (b"", b'{"sha256":"%s","size":%d}' % (sha256.encode(), len(BODY)), b"{}"):
            answer = await api("PATCH", where, data=body)
            assert (answer.status, answer.json) == (200, named)
        assert await get(api, "a/b%20c") == BODY
        assert (await api("DELETE", where)).status == 409

    run(tmp_path, story)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"size":1}', 422),
        (b'{"sha256":"%s"}' % (b"0" * 64), 422),
        (b'{"sha256":"zz"}', 400),
        (b'{"size":"x"}', 400),
        (b'{"sha265":"%s"}' % (b"0" * 64), 400),
        (b"[]", 400),
        (b"\xff", 400),
        (b" " * 5000, 413),
    ],
)
def test_a_confirmation_that_does_not_hold_changes_nothing(
    tmp_path: Path, body: bytes, status: int
) -> None:
    async def story(api: Api) -> None:
        posted = await api("POST", "/temp/k", data=BODY)
        where = posted.headers["Location"]
        assert (await api("PATCH", where, data=body)).status == status
        assert (await api("GET", "/objects/k")).status == 404
        assert (await api("PATCH", where)).status == 200

    run(tmp_path, story)


def test_a_resumable_upload_is_not_confirmed_before_it_is_whole(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        where = (await begin(api)).headers["Location"]
        await add(api, where, BODY[:MIB], 0)
        assert (await api("PATCH", where)).status == 409

    run(tmp_path, story)


def test_nothing_is_added_to_a_body_that_waits(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        where = (await api("POST", "/temp/k", data=BODY)).headers["Location"]
        assert (await add(api, where, b"more", len(BODY))).status == 409
        assert (await api("PATCH", where)).status == 200
        assert await get(api) == BODY

    run(tmp_path, story)


def test_a_wrong_digest_or_an_early_end_leaves_nothing(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        wrong = {"Digest": digest_of(b"other")}
        assert (await api("POST", "/temp/k", data=BODY, headers=wrong)).status == 400
        _, writer = await asyncio.open_connection("127.0.0.1", api.port)
        pair = base64.b64encode(b"root:root-secret").decode()
        writer.write(
            f"POST /temp/k HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {pair}\r\n"
            "Content-Length: 9999\r\n\r\nshort".encode()
        )
        await writer.drain()
        async with asyncio.timeout(20):
            while not uploads(api):  # noqa: ASYNC110  a server is waited for
                await asyncio.sleep(0.05)
            writer.close()
            while uploads(api):  # noqa: ASYNC110  likewise
                await asyncio.sleep(0.05)

    def uploads(api: Api) -> int:
        found = api.world.catalog._writer.execute("SELECT COUNT(*) FROM uploads").fetchone()
        return int(found[0])

    run(tmp_path, story)


@pytest.mark.parametrize("name", ["", "x" * 1025, "%ff", "%zz"])
def test_bad_names_are_refused(tmp_path: Path, name: str) -> None:
    async def story(api: Api) -> None:
        assert (await api("POST", f"/temp/{name}", data=b"x")).status in (400, 404)
        assert (await api("POST", "/temp/k", data=b"x", auth=None)).status == 401

    run(tmp_path, story)


def test_other_methods_are_405_with_allow(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        where = (await begin(api)).headers["Location"]
        answer = await api("GET", where)
        assert answer.status == 405
        allowed = {each.strip() for each in answer.headers["Allow"].split(",")}
        assert {"HEAD", "PUT", "PATCH", "POST", "DELETE"} <= allowed
        assert "GET" not in allowed

    run(tmp_path, story)


def test_what_is_given_up_is_collected(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        where = (await begin(api)).headers["Location"]
        await add(api, where, BODY[:MIB], 0)
        await api("DELETE", where)
        while api.world.meta_rpc.apply(Collect(grace_ms=0)) != [Collected()]:
            pass
        found = api.world.catalog._writer.execute(
            "SELECT COUNT(*) FROM stripes WHERE dead_since_ms IS NULL"
        )
        assert found.fetchone()[0] == 0

    run(tmp_path, story)


def test_the_redundancy_asked_for_is_that_of_the_object(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        where = (await begin(api, **{"X-Oss-Profile": "2+1"})).headers["Location"]
        await add(api, where, BODY, 0)
        assert len((await api("GET", "/locate/k")).json) == 3
        answer = await begin(api, b"other", **{"X-Oss-Profile": "nonsense"})
        assert answer.status == 400
        posted = await api(
            "POST", "/temp/t", data=random_bytes(MIB, seed=9), headers={"X-Oss-Profile": "3+2"}
        )
        await api("PATCH", posted.headers["Location"])
        assert len((await api("GET", "/locate/t")).json) == 5

    run(tmp_path, story)
