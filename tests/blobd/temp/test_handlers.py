"""The `/temp` door: what each request answers, to whom, and that it leaves nothing behind."""

import asyncio
import base64
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from blobd.temp.records import PIECE_BYTES_MAX, TempId
from blobd.temp.shelf import Shelf
from osscore.errors import CorruptShard, NoSuchShard, NoSuchUpload
from tests.blobd.parts import MIB, until
from tests.blobd.temp.door import Daemon, client_of, daemon, run
from tests.blobd.temp.shelf_story import temp
from tests.blobd.test_scrub import flip_bit_of

SIZES = (0, 1, 3, 4095, 4096, 4097, 65_537, MIB, PIECE_BYTES_MAX + 1, 9 * MIB)


def noise(size_bytes: int, seed: int = 1) -> bytes:
    import random

    return random.Random(seed).randbytes(size_bytes)


def digest_of(body: bytes) -> str:
    return base64.b64encode(sha256(body).digest()).decode()


async def whole(it: Daemon, temp: str, piece_count: int) -> bytes:
    pieces = [
        await client_of(it).get_temp_piece(
            f"http://127.0.0.1:{it.port}", bytes.fromhex(temp), n, deadline_s=10
        )
        for n in range(piece_count)
    ]
    return b"".join(pieces)


async def whole_is_gone(it: Daemon, temp: str) -> bool:
    [traces] = [t for t in Shelf(it.node.first).traces() if t.temp.hex() == temp]
    return not (traces.has_head or traces.has_pieces)


def left(it: Daemon) -> list[str]:
    """What the disks hold of temps."""
    return [t.temp.hex() for disk in it.node.disks for t in Shelf(disk).traces()]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_any_size_is_kept_whole(tmp_path: Path, chunked: bool):
    async def story() -> None:
        async with daemon(tmp_path) as it:
            for size_bytes in SIZES:
                body = noise(size_bytes)

                async def arriving(body: bytes = body) -> Any:
                    for at in range(0, len(body), 70_000):
                        yield body[at : at + 70_000]

                before_ms = it.temps.now_ms()
                data = arriving() if chunked else body
                answer = await it("POST", "/temp/a%20b/c", data=data)
                assert answer.status == 201
                held = answer.json
                assert set(held) == {"id", "sha256", "size", "expires_at"}
                assert answer.headers["Location"] == f"/temp/{held['id']}"
                assert (held["size"], held["sha256"]) == (size_bytes, sha256(body).hexdigest())
                expires = datetime.fromisoformat(held["expires_at"]).replace(tzinfo=UTC)
                assert 999 < expires.timestamp() - before_ms / 1000 < 1060
                found = await it.temps.find(TempId(bytes.fromhex(held["id"])))
                assert found.head is not None
                assert (found.head.name, found.head.access_key) == ("a b/c", "root")
                assert await whole(it, held["id"], found.head.piece_count) == body
                head = await it("HEAD", f"/temp/{held['id']}")
                assert (head.status, head.body) == (200, b"")
                assert head.headers["Content-Length"] == str(size_bytes)
                assert head.headers["Upload-Offset"] == str(size_bytes)

    run(story)


def test_a_name_is_the_whole_decoded_rest_of_the_path(tmp_path: Path):
    async def story() -> None:
        async with daemon(tmp_path) as it:
            for name in ("a/b//c", "../..", "a b+c%", "\N{ROCKET}", "x" * 1024, "é", "?#"):
                held = await it.post(quote(name, safe="/"), b"x")
                found = await it.temps.find(TempId(bytes.fromhex(held["id"])))
                assert found.content.name == name
            for bad in ("", "%00", "%zz", "%ff", "x" * 1025):
                refused = await it("POST", f"/temp/{bad}", data=b"x")
                assert (refused.status, refused.code) == (400, "InvalidName"), bad
            assert (await it("POST", "/temp", data=b"x")).code == "InvalidName"

    run(story)


def test_a_wrong_digest_keeps_nothing(tmp_path: Path):
    async def story() -> None:
        async with daemon(tmp_path) as it:
            body = noise(5 * MIB)
            for header, value in (
                ("Digest", f"SHA-256={digest_of(b'other')}"),
                ("Content-Digest", f"sha-256=:{digest_of(b'other')}:"),
            ):
                refused = await it("POST", "/temp/x", data=body, headers={header: value})
                assert (refused.status, refused.code) == (400, "BadDigest")
            malformed = await it("POST", "/temp/x", data=body, headers={"Digest": "SHA-256=x"})
            assert (malformed.status, malformed.code) == (400, "InvalidArgument")
            await until(lambda: not left(it))
            good = {"Digest": f"SHA-256={digest_of(body)}"}
            await it.post("x", body, headers=good)

    run(story)


def test_what_a_put_would_keep_is_kept_for_the_object(tmp_path: Path):
    async def story() -> None:
        async with daemon(tmp_path) as it:
            headers = {
                "Content-Type": "text/plain",
                "X-Oss-Meta-Colour": "red",
                "X-Oss-Profile": "2+1",
            }
            held = await it.post("x", b"hello", headers=headers)
            await it("PATCH", f"/temp/{held['id']}")
            [(url, adopt)] = it.frontends.asked
            assert (url, adopt.url, adopt.name, adopt.access_key) == (
                "http://f1",
                "http://me",
                "x",
                "root",
            )
            assert (adopt.size_bytes, adopt.piece_count) == (5, 1)
            assert adopt.sha256 == sha256(b"hello").digest()
            assert adopt.content == {"content-type": "text/plain"}
            assert adopt.user == {"colour": "red"} and adopt.profile == "2+1"
            assert 990_000 < adopt.expires_in_ms <= 1_000_000
            bad = await it("POST", "/temp/x", data=b"x", headers={"X-Oss-Profile": "many"})
            assert (bad.status, bad.code) == (400, "InvalidArgument")

    run(story)


def test_confirming_again_gives_the_same_and_asks_nobody(tmp_path: Path):
    async def story() -> None:
        async with daemon(tmp_path) as it:
            held = await it.post("x/y", b"hello")
            path = f"/temp/{held['id']}"
            first = await it("PATCH", path)
            assert first.status == 200
            assert first.json == {
                "name": "x/y",
                "version": 1,
                "sha256": sha256(b"hello").hexdigest(),
                "size": 5,
            }
            assert first.headers["X-Version"] == "1"
            assert first.headers["X-Version-Id"] == f"{1:016x}"
            for _ in range(3):
                assert (await it("PATCH", path)).json == first.json
            assert len(it.frontends.asked) == 1
            head = await it("HEAD", path)
            assert (head.status, head.headers["Upload-Offset"]) == (200, "5")
            late = await it("DELETE", path)
            assert (late.status, late.code) == (409, "Conflict")
            assert await whole_is_gone(it, held["id"])
            assert (await it("PATCH", path)).json == first.json
            rpc = it.node.rpc
        async with daemon(tmp_path, rpc=rpc) as it:
            assert (await it("PATCH", path)).json == first.json
            assert it.frontends.asked == []

    run(story)


def test_what_is_asserted_is_compared_and_a_mismatch_changes_nothing(tmp_path: Path):
    async def story() -> None:
        async with daemon(tmp_path) as it:
            held = await it.post("x", b"hello")
            path, right = f"/temp/{held['id']}", sha256(b"hello").digest()
            for body in (
                {"size": 4},
                {"sha256": sha256(b"").hexdigest()},
                {"size": 5, "sha256": digest_of(b"")},
                {"size": 4, "sha256": right.hex()},
            ):
                refused = await it("PATCH", path, json=body)
                assert (refused.status, refused.code) == (422, "ContentMismatch"), body
            for bad in (
                b"[]",
                b"{",
                b'{"size":"5"}',
                b'{"sha256":5}',
                b'{"sha265":""}',
                b"\xff",
                b"[" * 4000,
            ):
                refused = await it("PATCH", path, data=bad)
                assert (refused.status, refused.code) == (400, "MalformedBody"), bad
            refused = await it("PATCH", path, json={"sha256": "nonsense"})
            assert (refused.status, refused.code) == (400, "InvalidArgument")
            refused = await it("PATCH", path, data=b" " * 5000)
            assert (refused.status, refused.code) == (413, "EntityTooLarge")
            assert it.frontends.asked == []
            urlsafe = base64.urlsafe_b64encode(right).decode().rstrip("=")
            for sha in (right.hex(), right.hex().upper(), digest_of(b"hello"), urlsafe):
                done = await it("PATCH", path, json={"size": 5, "sha256": sha})
                assert done.status == 200
            late = await it("PATCH", path, json={"size": 4})
            assert (late.status, late.code) == (422, "ContentMismatch")
            assert (await it("PATCH", path, json={})).status == 200

    run(story)


def test_giving_up_removes_it(tmp_path: Path):
    async def story() -> None:
        async with daemon(tmp_path) as it:
            held = await it.post("x", noise(5 * MIB))
            path = f"/temp/{held['id']}"
            deleted = await it("DELETE", path)
            assert (deleted.status, deleted.body) == (204, b"")
            assert left(it) == []
            for method in ("DELETE", "PATCH", "HEAD"):
                assert (await it(method, path)).status == 404
            assert it.frontends.asked == []

    run(story)


def test_an_id_that_is_none_is_unknown(tmp_path: Path):
    async def story() -> None:
        async with daemon(tmp_path) as it:
            for text in ("", "x", "ff" * 16, "00" * 16, "%ff" * 16, "..", "ff" * 16 + "/x"):
                for method in ("PATCH", "DELETE"):
                    answer = await it(method, f"/temp/{text}")
                    expected = (400, "InvalidName") if "%ff" in text else (404, "NoSuchUpload")
                    assert (answer.status, answer.code) == expected, text

    run(story)


def test_who_asks_the_wrong_daemon_is_told_whom_to_ask(tmp_path: Path):
    async def story() -> None:
        async with daemon(tmp_path) as it:
            elsewhere = await it("PATCH", f"/temp/{temp(1).hex()}")
            handle = await it("PATCH", "/temp/" + "A" * 43)
            assert elsewhere.status == handle.status == 404
            assert b"Only the daemon that took it knows it" in elsewhere.body
            assert b"ask a frontend for" in handle.body

    run(story)


def test_an_expired_one_is_unknown_at_once(tmp_path: Path):
    async def story() -> None:
        async with daemon(tmp_path, expiry_s=0.3) as it:
            held = await it.post("x", b"hello")
            path = f"/temp/{held['id']}"

            expires_at = datetime.fromisoformat(held["expires_at"]).timestamp()
            await until(lambda: it.temps.now_ms() / 1000 > expires_at)
            assert (await it("HEAD", path)).status == 404
            gone = await it("PATCH", path)
            assert (gone.status, gone.code) == (404, "NoSuchUpload")
            assert left(it)  # the sweep does not run here
            await it.temps.sweep()
            assert left(it) == []

    run(story)


def test_only_who_may_upload_there_passes_the_door(tmp_path: Path):
    async def story() -> None:
        async with daemon(tmp_path) as it:
            held = await it.post("x", b"hello")
            path = f"/temp/{held['id']}"
            await it.give_key("reader", "download", "info")
            await it.give_key("elsewhere", "upload", buckets=("other",))
            await it.give_key("writer", "upload", buckets=("objects",))
            requests = (("POST", "/temp/y"), ("PATCH", path), ("HEAD", path), ("DELETE", path))
            for method, where in requests:
                for auth in (None, ("root", "wrong"), ("nobody", "secret")):
                    refused = await it(method, where, auth=auth)
                    assert refused.status == 401, (method, auth)
                    assert refused.headers["WWW-Authenticate"].startswith("Basic realm=")
                for key in ("reader", "elsewhere"):
                    refused = await it(method, where, auth=(key, "secret"))
                    assert refused.status == 403, (method, key)
            # Who may not pass does not learn which ids exist.
            assert (await it("PATCH", "/temp/" + "ff" * 16, auth=None)).status == 401
            await until(lambda: left(it) == [held["id"]])
            assert (await it("PATCH", path, auth=("writer", "secret"))).status == 200
            bearer = {"Authorization": "Bearer writer:secret"}
            posted = await it("POST", "/temp/z", auth=None, data=b"x", headers=bearer)
            assert posted.status == 201

    run(story)


def test_a_refused_body_is_not_even_read(tmp_path: Path):
    async def story() -> None:
        async with daemon(tmp_path) as it:
            reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
            writer.write(
                b"POST /temp/x HTTP/1.1\r\nHost: b\r\nContent-Length: 99999999999\r\n"
                b"Expect: 100-continue\r\n\r\n"
            )
            answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            assert answer.startswith(b"HTTP/1.1 401 ")
            writer.close()

    run(story)


def test_a_body_is_asked_for_when_it_is_wanted(tmp_path: Path):
    async def story() -> None:
        async with daemon(tmp_path) as it:
            reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
            pair = base64.b64encode(b"root:root-secret")
            writer.write(
                b"POST /temp/x HTTP/1.1\r\nHost: b\r\nContent-Length: 5\r\n"
                b"Authorization: Basic " + pair + b"\r\nExpect: 100-continue\r\n\r\n"
            )
            asked = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            assert asked.startswith(b"HTTP/1.1 100 ")
            writer.write(b"hello")
            answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            assert answer.startswith(b"HTTP/1.1 201 ")
            writer.close()

    run(story)


@pytest.mark.parametrize("sent_bytes", [10, 3 * MIB, 9 * MIB])
def test_a_client_that_leaves_leaves_nothing_behind(tmp_path: Path, sent_bytes: int):
    async def story() -> None:
        async with daemon(tmp_path) as it:
            _, writer = await asyncio.open_connection("127.0.0.1", it.port)
            pair = base64.b64encode(b"root:root-secret")
            writer.write(
                b"POST /temp/x HTTP/1.1\r\nHost: b\r\nContent-Length: 20000000\r\n"
                b"Authorization: Basic " + pair + b"\r\n\r\n" + bytes(sent_bytes)
            )
            await writer.drain()
            if sent_bytes > PIECE_BYTES_MAX:
                await until(lambda: bool(left(it)))
            writer.close()
            await until(lambda: not left(it) and it.budget.used_bytes == 0)

    run(story)


def test_a_slow_client_is_no_reason_to_give_up(tmp_path: Path):
    """Shards come to this server in whole pieces of 8 MiB; bodies of users as they come."""

    async def story() -> None:
        async with daemon(tmp_path) as it:
            reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
            pair = base64.b64encode(b"root:root-secret")
            writer.write(
                b"POST /temp/x HTTP/1.1\r\nHost: b\r\nContent-Length: 300000\r\n"
                b"Authorization: Basic " + pair + b"\r\n\r\n"
            )
            for _ in range(3):
                writer.write(bytes(100_000))
                await writer.drain()
                held_bytes = it.budget.used_bytes
                await until(lambda held=held_bytes: it.budget.used_bytes > held or reader._buffer)
            answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            assert answer.startswith(b"HTTP/1.1 201 ")
            writer.close()

    run(story)


def test_other_methods_are_told_which_there_are(tmp_path: Path):
    async def story() -> None:
        async with daemon(tmp_path) as it:
            for method in ("GET", "PUT"):
                refused = await it(method, "/temp/x", data=b"")
                assert (refused.status, refused.code) == (405, "MethodNotAllowed")
                assert refused.headers["Allow"] == "HEAD, POST, DELETE, PATCH"

    run(story)


def test_a_full_disk_is_507_and_leaves_nothing(tmp_path: Path, monkeypatch):
    async def story() -> None:
        async with daemon(tmp_path) as it:
            room = it.node.first.store._room
            monkeypatch.setattr(room, "writable_bytes", lambda: 6 * MIB)
            refused = await it("POST", "/temp/x", data=bytes(7 * MIB))
            assert (refused.status, refused.code) == (507, "DiskFull")
            assert left(it) == []
            monkeypatch.setattr(room, "writable_bytes", lambda: 5 * MIB - len(left(it)) * 5 * MIB)

            async def chunked() -> Any:
                for _ in range(12):
                    yield bytes(MIB)

            refused = await it("POST", "/temp/x", data=chunked())
            assert (refused.status, refused.code) == (507, "DiskFull")
            await until(lambda: not left(it))

    run(story)


def test_pieces_are_for_signed_requests_only_and_damage_is_not_served(tmp_path: Path):
    async def story() -> None:
        async with daemon(tmp_path) as it:
            body = noise(6 * MIB)
            held = await it.post("x", body)
            temp = bytes.fromhex(held["id"])
            path = f"/v1/temps/{held['id']}/pieces/0"
            assert (await it("GET", path)).status == 401
            assert (await it("GET", path, auth=None)).status == 401
            found = await it.temps.find(TempId(temp))
            assert found.head is not None
            count = found.head.piece_count
            assert await whole(it, held["id"], count) == body
            url = f"http://127.0.0.1:{it.port}"
            with pytest.raises(NoSuchShard):
                await client_of(it).get_temp_piece(url, temp, count, deadline_s=10)
            with pytest.raises(NoSuchUpload):
                await client_of(it).get_temp_piece(url, b"\xff" * 16, 0, deadline_s=10)
            flip_bit_of(it.node.first, body[100:300])
            with pytest.raises(CorruptShard):
                await client_of(it).get_temp_piece(url, temp, 0, deadline_s=10)

    run(story)


def test_no_shard_request_reaches_a_temp(tmp_path: Path):
    async def story() -> None:
        async with daemon(tmp_path) as it:
            held = await it.post("x", b"hello")
            disk = it.node.first.uuid.hex()
            url = f"http://127.0.0.1:{it.port}/v1/disks/{disk}/shards/{held['id']}/2/0"
            assert (await it.rpc.call("GET", url, deadline_s=5)).status == 400
            page = await client_of(it).inventory(
                f"http://127.0.0.1:{it.port}", it.node.first.uuid, deadline_s=5
            )
            assert page.rows == ()

    run(story)
