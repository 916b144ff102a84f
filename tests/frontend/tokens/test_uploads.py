"""Uploading by token: in one piece, in chunks, and what is refused of either."""

import asyncio
import re
from pathlib import Path

import pytest

from osscore.model import INLINE_BYTES_MAX, STRIPE_BYTES_MAX
from raftmeta.commands import Collect, Collected
from raftmeta.queries import CatalogCounted, CountCatalog, ListVersions, VersionsListed
from tests.frontend.harness import random_bytes, url
from tests.frontend.tokens.client import BOUNDARY, FORM, SYSTEM, TokenApi, form_of, hash_of, run

MIB = 1 << 20
BODY = random_bytes(3 * MIB, seed=3)
SIZES = [
    *(0, 1, 3, 4, 5),
    *(INLINE_BYTES_MAX + n for n in (-1, 0, 1)),
    *(STRIPE_BYTES_MAX + n for n in (-1, 0, 1)),
    2 * STRIPE_BYTES_MAX + 1,
]


async def version_count(api: TokenApi) -> int:
    listed = await api.api.world.meta.query(ListVersions(bucket="files"), VersionsListed)
    return len(listed.versions)


async def counted(api: TokenApi) -> CatalogCounted:
    return await api.api.world.meta.query(CountCatalog(), CatalogCounted)


def collect(api: TokenApi) -> None:
    """Let the steward's collection run to its end."""
    while api.api.world.meta_rpc.apply(Collect(grace_ms=0)) != [Collected()]:
        pass


# --- in one piece ----------------------------------------------------------------------------


@pytest.mark.parametrize("size_bytes", SIZES)
def test_a_file_comes_back_as_it_was_sent(tmp_path: Path, size_bytes: int) -> None:
    body = random_bytes(size_bytes, seed=size_bytes)

    async def story(api: TokenApi) -> None:
        sent = await api.single(body)
        assert sent.json["data"] == {"status": "success"}
        got = await api.download(body)
        assert (got.status, got.body) == (200, body)
        assert got.headers["Content-Length"] == str(size_bytes)
        native = await api.api("GET", f"/buckets/files/objects/{hash_of(body)}")
        assert native.body == body

    run(tmp_path, story)


def test_another_content_is_refused_and_nothing_stored(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        token = await api.token("upload", BODY)
        for wrong in (b"", b"x", BODY[:-1], BODY + b"x", BODY[:-1] + b"x"):
            await api.refused(
                *(422, 5543, "POST", "/upload/single"),
                token=token,
                data=form_of(wrong),
                headers={"Content-Type": FORM},
            )
        assert (await api.download(BODY)).status == 404
        assert await version_count(api) == 0
        assert (await api.single(BODY)).status == 200

    run(tmp_path, story)


def test_a_known_hash_succeeds_at_once_and_its_body_passes(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        await api.single(BODY, "first.bin")
        for body in (BODY, b"anything", random_bytes(20 * MIB)):
            token = await api.token("upload", BODY)
            assert (await api.single(body, "second.bin", token=token)).status == 200
        token = await api.token("upload", BODY)
        assert (await api("POST", "/upload/single", token=token)).status == 200
        assert await version_count(api) == 1
        assert (await api.download(BODY)).body == BODY

    run(tmp_path, story)


async def raw_request(port: int, head: str, *, then: bytes = b"") -> bytes:
    """What comes back on a connection of its own until it is quiet after an answer's end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    if then:
        writer.write(then)
        answer = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in answer.split(b"\r\n") if line.lower().startswith(b"content-le"))
    answer += await reader.readexactly(int(length.split(b":")[1]))
    writer.close()
    return answer


def test_who_asks_first_sends_no_body_that_is_not_wanted(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        token = await api.token("upload", BODY)
        form = form_of(BODY)
        head = (
            f"POST /upload/single HTTP/1.1\r\nHost: x\r\ntoken: {token}\r\nExpect: 100-continue\r\n"
            f"Content-Type: {FORM}\r\nContent-Length: {len(form)}\r\n\r\n"
        )
        stored = await raw_request(api.api.port, head, then=form)
        assert stored.startswith(b"HTTP/1.1 200 ") and b'"success"' in stored
        known = await raw_request(api.api.port, head)
        assert known.startswith(b"HTTP/1.1 200 ") and b'"success"' in known
        chunk = head.replace("/upload/single", "/upload/chuck?chuck=1")
        assert (await raw_request(api.api.port, chunk)).startswith(b"HTTP/1.1 200 ")
        refused = await raw_request(api.api.port, head.replace(token, "x"))
        assert refused.startswith(b"HTTP/1.1 401 ") and b"5531" in refused

    run(tmp_path, story)


def test_a_body_without_the_part_is_refused(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        token = await api.token("upload", b"x")
        for path in ("/upload/single", "/upload/chuck?chuck=0"):
            two = form_of(b"x")[: -len(f"--{BOUNDARY}--\r\n")] + form_of(b"y")
            for form in (b"", b"x", form_of(b"x", part="other"), two):
                more = {"data": form, "headers": {"Content-Type": FORM}, "token": token}
                await api.refused(400, 5541, "POST", path, **more)
            for kind in ("application/octet-stream", "application/json", "multipart/form-data"):
                more = {"data": b"x", "headers": {"Content-Type": kind}, "token": token}
                await api.refused(400, 5541, "POST", path, **more)
            await api.refused(400, 5541, "POST", path, token=token)
            cut_off = {"data": form_of(b"x")[:-8], "headers": {"Content-Type": FORM}}
            await api.refused(400, 5546, "POST", path, token=token, **cut_off)
        assert not (await api.api("GET", "/buckets/files/objects")).json.get("objects")

    run(tmp_path, story)


def test_a_token_may_bound_the_size(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        short = await api.token("upload", BODY, max_size=len(BODY) - 1)
        more = {"headers": {"Content-Type": FORM}, "token": short}
        await api.refused(413, 5541, "POST", "/upload/single", data=form_of(BODY), **more)
        half, rest = BODY[:MIB], BODY[MIB:]
        assert (await api.chunk(short, 0, half)).status == 200
        await api.refused(413, 5541, "POST", "/upload/chuck?chuck=1", data=form_of(rest), **more)
        # Another token for the same content is not bound by that one, and may go on.
        enough = await api.token("upload", BODY, max_size=len(BODY))
        assert (await api.chunk(enough, 1, rest)).json["data"]["received"] == [0, 1]
        await api.refused(
            *(413, 5541, "GET", "/upload/finish?file_name=f"), token=short, system=SYSTEM
        )
        assert (await api.finish(enough)).status == 200
        other = await api.token("upload", b"12345", max_size=5)
        assert (await api.single(b"12345", token=other)).status == 200

    run(tmp_path, story)


@pytest.mark.parametrize(
    "name", ["plain.txt", 'quo"te.txt', "ünï ☃ 🎉.tar.gz", "semi;colon=x", "100%.txt", "n" * 255]
)
def test_a_file_keeps_its_name(tmp_path: Path, name: str) -> None:
    async def story(api: TokenApi) -> None:
        await api.single(b"one piece", name.replace('"', "%22"))
        token = await api.token("upload", b"in chunks")
        await api.chunk(token, 1, b"in chunks")
        assert (await api.finish(token, name)).status == 200
        for body in (b"one piece", b"in chunks"):
            token = await api.token("download", body)
            info = await api.data("GET", "/file/info", token=token, system=SYSTEM)
            assert info["name"] == name
            native = await api.api("GET", f"/buckets/files/objects/{hash_of(body)}")
            is_plain = re.fullmatch(r"[a-z.;=]+", name) is not None
            kept = native.headers["Content-Disposition"]
            assert kept == (await api.download(body)).headers["Content-Disposition"]
            assert kept.startswith('attachment; filename="')
            assert kept.isascii() and ("filename*=UTF-8''" in kept) != is_plain

    run(tmp_path, story)


def test_a_name_that_names_a_folder_is_dropped_from_one_piece(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        for name in (".", ".."):
            body = f"named {name}".encode()
            assert (await api.single(body, name)).status == 200
            token = await api.token("download", body)
            info = await api.data("GET", "/file/info", token=token, system=SYSTEM)
            assert info["name"] == hash_of(body)

    run(tmp_path, story)


def test_too_few_nodes_is_said_so(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        for node in api.api.world.nodes[1:]:
            api.api.world.blobs.refusing.add(url(node))
        answer = await api.single(BODY)
        assert (answer.status, answer.json["code"]) == (503, 5502)
        assert int(answer.headers["Retry-After"]) >= 1

    run(tmp_path, story)


# --- in chunks -------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("word", ["chuck", "chunk"])
def test_chunks_in_any_order_become_the_file(tmp_path: Path, word: str, first: int) -> None:
    parts = [BODY[at : at + 700_000] for at in range(0, len(BODY), 700_000)]
    order = [3, 0, 4, 2, 1]

    async def story(api: TokenApi) -> None:
        token = await api.token("upload", BODY)
        for sent_count, number in enumerate(order, start=1):
            answer = await api.chunk(token, number + first, parts[number], word=word)
            assert answer.json["data"] == {
                "status": "success",
                "speed": str(sent_count),
                "received": sorted(n + first for n in order[:sent_count]),
                "count": sent_count,
            }
        assert (await api.download(BODY)).status == 404
        for _ in range(2):
            assert (await api.finish(token)).json["data"] == {"status": "success"}
        assert (await api.download(BODY)).body == BODY
        assert await version_count(api) == 1
        collect(api)
        assert (await counted(api)).uploads == 0

    run(tmp_path, story)


@pytest.mark.parametrize("size_bytes", SIZES)
def test_sizes_in_two_chunks(tmp_path: Path, size_bytes: int) -> None:
    body = random_bytes(size_bytes, seed=size_bytes)

    async def story(api: TokenApi) -> None:
        token = await api.token("upload", body)
        half = size_bytes // 2
        assert (await api.chunk(token, 2, body[half:])).status == 200
        assert (await api.chunk(token, 1, body[:half])).status == 200
        assert (await api.finish(token)).status == 200
        assert (await api.download(body)).body == body

    run(tmp_path, story)


def test_the_empty_file_needs_no_chunk(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        token = await api.token("upload", b"")
        assert (await api.finish(token, "nothing")).status == 200
        got = await api.download(b"")
        assert (got.status, got.body, got.headers["Content-Length"]) == (200, b"", "0")
        assert "nothing" in got.headers["Content-Disposition"]

    run(tmp_path, story)


@pytest.mark.parametrize(
    "query",
    [
        *("", "chuck=", "chunk=", "Chuck=1", "chuck=x", "chunk=nan", "chuck=None", "chuck=1,2"),
        *("chuck=-1", "chuck=10001", "chuck=" + "9" * 40, "chuck=1.0", "chuck=1e3", "chuck=0x1"),
        *("chuck=+1", "chuck=%2B1", "chuck=%EF%BC%91", "chuck=%ff", "chuck=1%00"),
        "chuck=1&chunk=2",
    ],
)
def test_what_is_no_chunk_number_is_refused(tmp_path: Path, query: str) -> None:
    async def story(api: TokenApi) -> None:
        token = await api.token("upload", BODY)
        for path in ("/upload/chuck", "/upload/chunk"):
            more = {"data": form_of(BODY), "headers": {"Content-Type": FORM}}
            await api.refused(400, 5545, "POST", f"{path}?{query}", token=token, **more)
        assert (await counted(api)).uploads == 0

    run(tmp_path, story)


@pytest.mark.parametrize(
    "query", ["chuck=0", "chunk=0", "chuck=10000", "chuck=007", "chuck=5&chunk=5"]
)
def test_what_is_one_is_taken(tmp_path: Path, query: str) -> None:
    async def story(api: TokenApi) -> None:
        token = await api.token("upload", BODY)
        taken = await api.post_form(f"/upload/chunk?{query}", form_of(b"x"), token=token)
        assert taken.json["data"]["count"] == 1

    run(tmp_path, story)


def test_a_chunk_is_taken_once_unless_it_is_replaced(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        token = await api.token("upload", BODY)
        wrong = bytes(len(BODY) - MIB)
        await api.chunk(token, 0, BODY[:MIB])
        await api.chunk(token, 1, wrong)
        held = await api.chunk(token, 1, BODY[MIB:])
        assert (held.status, held.json["code"]) == (409, 5545)
        unfinished = await api.finish(token)
        assert (unfinished.status, unfinished.json["code"]) == (422, 5543)
        replaced = await api.chunk(token, 1, BODY[MIB:], more="&replace=1")
        assert replaced.json["data"]["received"] == [0, 1]
        assert (await api.finish(token)).status == 200
        assert (await api.download(BODY)).body == BODY

    run(tmp_path, story)


def test_a_missing_chunk_is_named_and_may_still_come(tmp_path: Path) -> None:
    parts = [BODY[at : at + MIB] for at in range(0, 3 * MIB, MIB)]

    async def story(api: TokenApi) -> None:
        token = await api.token("upload", BODY)
        for held, missing in (((), 0), ((0, 2), 1)):
            for number in held:
                await api.chunk(token, number, parts[number])
            unfinished = await api.finish(token)
            assert (unfinished.status, unfinished.json["code"]) == (422, 5543)
            assert f"Chunk {missing} is missing" in unfinished.json["msg"]
        await api.chunk(token, 1, parts[1])
        assert (await api.finish(token)).status == 200
        assert (await api.download(BODY)).body == BODY

    run(tmp_path, story)


def test_what_is_stored_already_is_neither_taken_nor_put_together(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        token = await api.token("upload", BODY)
        await api.chunk(token, 7, BODY[:MIB])
        await api.single(BODY)
        known = await api.chunk(token, 1, b"anything")
        assert known.json["data"] == {"status": "success", "speed": "0", "received": [], "count": 0}
        assert (await api.finish(token)).status == 200
        collect(api)
        assert (await counted(api)).uploads == 0
        assert await version_count(api) == 1

    run(tmp_path, story)


def test_finishing_needs_a_name(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        token = await api.token("upload", BODY)
        await api.chunk(token, 0, BODY)
        more = {"token": token, "system": SYSTEM}
        for query in (
            "",
            "?file_name=",
            "?file_name=%20",
            "?file_name=/",
            "?file_name=.",
            "?file_name=..",
            "?file_name=../..%20",
            "?file_name=" + "n" * 1025,
        ):
            await api.refused(400, 5524, "GET", "/upload/finish" + query, **more)
        await api.refused(400, 5524, "POST", "/upload/finish", **more)
        assert (await api.data("POST", "/upload/finish", data={"file_name": "ü.x"}, **more)) == {
            "status": "success"
        }
        info = await api.data("GET", "/file/info", **more)
        assert info["name"] == "ü.x"

    run(tmp_path, story)


def test_sixteen_clients_at_once(tmp_path: Path) -> None:
    size_bytes = 150_000
    parts = [BODY[at : at + size_bytes] for at in range(0, len(BODY), size_bytes)]

    async def story(api: TokenApi) -> None:
        async def client(mine: int) -> None:
            token = await api.token("upload", BODY)
            for number in range(mine, len(parts), 16):
                answer = await api.chunk(token, number, parts[number])
                assert answer.status == 200 and number in answer.json["data"]["received"]

        await asyncio.gather(*(client(mine) for mine in range(16)))
        token = await api.token("upload", BODY)
        finished = await asyncio.gather(*(api.finish(token) for _ in range(8)))
        assert 200 in {answer.status for answer in finished}
        assert {answer.status for answer in finished} <= {200, 409}
        assert (await api.download(BODY)).body == BODY
        assert await version_count(api) == 1

    run(tmp_path, story)


def test_the_same_chunk_from_many_is_taken_once(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        token = await api.token("upload", BODY)
        answers = await asyncio.gather(*(api.chunk(token, 0, BODY) for _ in range(8)))
        assert sorted(answer.status for answer in answers) == [200] + [409] * 7
        assert (await api.finish(token)).status == 200

    run(tmp_path, story)


def test_the_same_file_from_many_is_stored_once(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        answers = await asyncio.gather(*(api.single(BODY) for _ in range(8)))
        assert {answer.status for answer in answers} == {200}
        assert await version_count(api) == 1

    run(tmp_path, story)


def test_a_client_that_leaves_in_the_middle_leaves_no_chunk(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        token = await api.token("upload", BODY)
        await api.chunk(token, 0, BODY[:MIB])
        form = form_of(BODY[MIB:])
        for path in ("/upload/chuck?chuck=1", "/upload/single"):
            _, writer = await asyncio.open_connection("127.0.0.1", api.api.port)
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\ntoken: {token}\r\nContent-Type: {FORM}\r\n"
            writer.write(f"{head}Content-Length: {len(form)}\r\n\r\n".encode() + form[:-100])
            await writer.drain()
            writer.close()
        last_s = asyncio.get_running_loop().time() + 20
        while (await counted(api)).uploads > 2:  # the upload, and the chunk that is whole
            assert asyncio.get_running_loop().time() < last_s
        held = await api.chunk(token, 2, BODY[MIB:])
        assert held.json["data"]["received"] == [0, 2]
        assert await version_count(api) == 0

    run(tmp_path, story)


def test_the_native_api_cannot_pass_off_another_content(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        await api.api("PUT", "/buckets/files")
        await api.api("PUT", f"/buckets/files/objects/{hash_of(BODY)}", data=b"something else")
        assert (await api.download(BODY)).status == 404
        assert (await api.single(BODY)).status == 200
        assert (await api.download(BODY)).body == BODY

    run(tmp_path, story)
