"""Uploading, finishing, downloading, asking about and deleting files by token."""

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import count
from urllib.parse import quote

import pytest

from tests.cluster.local import Answer, noise, wait_for
from tests.surface import tokens
from tests.surface.cluster import SurfaceStore
from tests.surface.raw import connect, request_head
from tests.surface.tokens import (
    Token,
    ask,
    data,
    finish,
    mint,
    multipart,
    refused,
    send_chunk,
    send_file,
)
from tests.surface.ways import STRIPE, cut, file_at

pytestmark = pytest.mark.cluster


# --- POST /upload/single -----------------------------------------------------------------------


def test_a_single_upload_is_a_file_and_an_object(
    store: SurfaceStore, body: bytes, upload: Token
) -> None:
    assert data(send_file(store, "/upload/single", upload, body)) == {"status": "success"}
    file_at(store, body).check(body)
    path = f"/buckets/files/objects/{sha256(body).hexdigest()}"
    assert store.ask("GET", path, at=1).expect(200).body == body


def test_a_known_hash_is_a_success_at_once(
    store: SurfaceStore, body: bytes, upload: Token, stored: Token
) -> None:
    assert data(send_file(store, "/upload/single", upload, body, at=1)) == {"status": "success"}
    listed = store.ask("GET", f"/buckets/files/versions/{sha256(body).hexdigest()}").expect(200)
    assert len(listed.json()["versions"]) == 1


def first_line(store: SurfaceStore, path: str, token: Token, at: int) -> bytes:
    """What is answered first to a head that announces a body and waits to be asked for it."""
    address = store.frontends[at]
    fields = {
        **token,
        **multipart(b"")["headers"],
        "Content-Length": str(1 << 30),
        "Expect": "100-continue",
    }
    with connect(address) as peer:
        peer.sendall(request_head("POST", path, address, fields))
        with peer.makefile("rb") as answer:
            return answer.readline().rstrip()


@pytest.mark.parametrize("path", ["/upload/single", "/upload/chuck?chuck=0"])
def test_a_known_hash_is_a_success_before_any_of_the_body_is_sent(
    store: SurfaceStore, upload: Token, body: bytes, path: str
) -> None:
    for at in (0, 1):
        assert first_line(store, path, upload, at) == b"HTTP/1.1 100 (Continue)"
    data(send_file(store, "/upload/single", upload, body))
    for at in (0, 1):
        assert first_line(store, path, upload, at) == b"HTTP/1.1 200 OK"
    # Who does not wait to be asked is let finish, whatever that sends.
    data(send_file(store, path, upload, b"something else" * 100_000))
    file_at(store, body).check(body)


def test_a_form_without_a_file_is_5541(store: SurfaceStore, body: bytes, upload: Token) -> None:
    for path in ("/upload/single", "/upload/chunk?chunk=0"):
        other = multipart(b"x", part="another")
        headers = {**other["headers"], **upload}
        refused(ask(store, "POST", path, headers=headers, body=other["body"]), 400, 5541)
        for broken in (b"", b"--x--", b"not a form at all"):
            refused(ask(store, "POST", path, headers=headers, body=broken), 400, 5541)
    refused(ask(store, "GET", "/download", headers=tokens.for_download(store, body)), 404, 5547)


def test_a_form_that_ends_early_is_5546(store: SurfaceStore, body: bytes, upload: Token) -> None:
    form = multipart(body)
    headers = {**form["headers"], **upload}
    for path in ("/upload/single", "/upload/chunk?chunk=0"):
        for size_bytes in (60, len(form["body"]) // 2, len(form["body"]) - 30):
            cut_short = form["body"][:size_bytes]
            refused(ask(store, "POST", path, headers=headers, body=cut_short), 400, 5546)
    refused(ask(store, "GET", "/download", headers=tokens.for_download(store, body)), 404, 5547)
    refused(finish(store, upload), 422, 5543)


def test_other_content_is_5543_and_nothing_is_stored(
    store: SurfaceStore, body: bytes, upload: Token
) -> None:
    for other in (b"", body[:-1], body + b"x", body[:-1] + bytes([body[-1] ^ 1])):
        refused(send_file(store, "/upload/single", upload, other), 422, 5543)
        refused(ask(store, "GET", "/download", headers=tokens.for_download(store, body)), 404, 5547)
        refused(
            ask(store, "GET", "/download", headers=tokens.for_download(store, other)), 404, 5547
        )


def test_more_than_max_size_is_refused(store: SurfaceStore) -> None:
    body = noise(10_000, seed=3)
    digest = sha256(body).hexdigest()
    small = mint(store, "upload", digest, max_size=9_999)
    refused(send_file(store, "/upload/single", small, body), 413, 5541)
    data(send_chunk(store, small, 0, body[:5_000]))
    refused(send_chunk(store, small, 1, body[5_000:], at=1), 413, 5541)
    assert data(send_chunk(store, small, 1, body[5_000:9_999]))["received"] == [0, 1]
    refused(ask(store, "GET", "/download", headers=tokens.for_download(store, body)), 404, 5547)
    enough = mint(store, "upload", digest, max_size=10_000)
    data(send_file(store, "/upload/single", enough, body))


# --- POST /upload/chunk ------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("path", ["/upload/chuck?chuck=", "/upload/chunk?chunk="])
def test_chunks_count_from_0_or_1_under_either_spelling(
    store: SurfaceStore, body: bytes, upload: Token, first: int, path: str
) -> None:
    parts = cut(body, 5)
    received: list[int] = []
    for at, number in enumerate((3, 0, 4, 2, 1)):
        received.append(number + first)
        said = data(send_chunk(store, upload, number + first, parts[number], at=at, path=path))
        assert said["status"] == "success" and said["count"] == at + 1, said
        assert said["speed"] == str(at + 1)
        assert sorted(said["received"]) == sorted(received)
    assert data(finish(store, upload, at=1)) == {"status": "success"}
    file_at(store, body).check(body)


def test_a_held_chunk_is_409_on_either_frontend(
    store: SurfaceStore, body: bytes, upload: Token
) -> None:
    parts = cut(body, 2)
    data(send_chunk(store, upload, 0, parts[0]))
    for at in (0, 1):
        refused(send_chunk(store, upload, 0, b"other", at=at), 409, 5545)
    data(send_chunk(store, upload, 1, parts[1], at=1))
    data(finish(store, upload))
    file_at(store, body).check(body)


def test_a_held_chunk_is_replaced_if_asked(store: SurfaceStore, body: bytes, upload: Token) -> None:
    parts, path = cut(body, 3), "/upload/chunk?replace=1&chunk="
    for number, part in enumerate((parts[0], b"wrong", parts[2])):
        data(send_chunk(store, upload, number, part, at=number))
    refused(finish(store, upload), 422, 5543)
    for at, wrong in enumerate((parts[0], b"")):
        assert data(send_chunk(store, upload, 1, wrong, at=at, path=path))["count"] == 3
    refused(finish(store, upload, at=1), 422, 5543)
    said = data(send_chunk(store, upload, 1, parts[1], at=1, path=path))
    assert (said["received"], said["count"]) == ([0, 1, 2], 3)
    refused(send_chunk(store, upload, 1, parts[0]), 409, 5545)
    data(finish(store, upload))
    file_at(store, body).check(body)


NO_NUMBERS = ("", "x", "-1", "1.5", "1e3", "10001", "9" * 40, "0x1", "1 2", "१", "null", "\0")


@pytest.mark.parametrize("number", NO_NUMBERS, ids=repr)
def test_what_is_no_chunk_number_is_400(
    store: SurfaceStore, body: bytes, upload: Token, number: str
) -> None:
    for path in ("/upload/chuck?chuck=", "/upload/chunk?chunk="):
        refused(send_chunk(store, upload, number, body, path=path), 400, 5545)
    refused(send_file(store, "/upload/chunk", upload, body), 400, 5545)
    # Nothing of it is held.
    assert data(send_chunk(store, upload, 0, body))["received"] == [0]


def test_the_last_number_is_ten_thousand(store: SurfaceStore, body: bytes, upload: Token) -> None:
    assert data(send_chunk(store, upload, 10_000, body))["received"] == [10_000]


def test_sixteen_clients_send_chunks_at_once(
    store: SurfaceStore, body: bytes, upload: Token
) -> None:
    parts = cut(body, 48)

    def send(number: int) -> int:
        return send_chunk(store, upload, number, parts[number], at=number).status

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(send, range(48))) == {200}
    data(finish(store, upload))
    file_at(store, body).check(body)


def test_of_sixteen_that_send_one_chunk_one_wins(
    store: SurfaceStore, body: bytes, upload: Token
) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: send_chunk(store, upload, 0, body, at=n), range(16)))
    assert [answer.status for answer in answers].count(200) == 1
    for answer in answers:
        if answer.status != 200:
            refused(answer, 409, 5545)
    data(finish(store, upload))
    file_at(store, body).check(body)


# --- /upload/finish ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_finishing_again_succeeds(
    store: SurfaceStore, body: bytes, upload: Token, method: str
) -> None:
    for number, part in enumerate(cut(body, 3)):
        data(send_chunk(store, upload, number, part, at=number))
    for at in (0, 1, 0):
        assert data(finish(store, upload, method=method, at=at)) == {"status": "success"}
    file_at(store, body).check(body)
    listed = store.ask("GET", f"/buckets/files/versions/{sha256(body).hexdigest()}").expect(200)
    assert len(listed.json()["versions"]) == 1


def test_many_finish_at_once_and_make_one_version(
    store: SurfaceStore, body: bytes, upload: Token
) -> None:
    for number, part in enumerate(cut(body, 3)):
        data(send_chunk(store, upload, number, part, at=number))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: finish(store, upload, at=n), range(8)))
    assert 200 in {answer.status for answer in answers} <= {200, 409, 503}
    data(finish(store, upload))
    file_at(store, body).check(body)
    listed = store.ask("GET", f"/buckets/files/versions/{sha256(body).hexdigest()}").expect(200)
    assert len(listed.json()["versions"]) == 1


def test_finishing_needs_a_name(store: SurfaceStore, body: bytes, upload: Token) -> None:
    data(send_chunk(store, upload, 0, body))
    for name in (None, ""):
        refused(finish(store, upload, name=name), 400, 5524)
    data(finish(store, upload))


def test_a_missing_chunk_is_5543_and_named(store: SurfaceStore, body: bytes, upload: Token) -> None:
    parts = cut(body, 4)
    for number in (0, 1, 3):
        data(send_chunk(store, upload, number, parts[number], at=number))
    assert "2" in refused(finish(store, upload), 422, 5543)
    assert "2" in refused(finish(store, upload, at=1), 422, 5543)
    data(send_chunk(store, upload, 2, parts[2]))
    data(finish(store, upload))
    file_at(store, body).check(body)


def test_finishing_without_any_chunk_is_5543(store: SurfaceStore, upload: Token) -> None:
    refused(finish(store, upload), 422, 5543)


def test_chunks_of_other_content_are_5543(store: SurfaceStore, body: bytes, upload: Token) -> None:
    parts = cut(body, 3)
    for number, part in enumerate((parts[0], parts[2], parts[1])):
        data(send_chunk(store, upload, number, part))
    refused(finish(store, upload), 422, 5543)
    refused(ask(store, "GET", "/download", headers=tokens.for_download(store, body)), 404, 5547)
    # The hash can still be uploaded.
    data(send_file(store, "/upload/single", upload, body))
    file_at(store, body).check(body)


def test_the_chunks_are_gone_after_finishing(store: SurfaceStore) -> None:
    """Counted among the uploads of all. Those that other tests have ended go meanwhile, in
    steps: chunks are sent until none went in between."""
    seeds = count(9_100)

    def sent() -> tuple[int, Token] | None:
        """How many uploads there were before the chunks of a new one, if all were seen."""
        body = noise(3 * STRIPE // 2, seed=next(seeds))
        upload = mint(store, "upload", sha256(body).hexdigest())
        before = store.census()["uploads"]
        for number, part in enumerate(cut(body, 3)):
            data(send_chunk(store, upload, number, part))
        if store.census()["uploads"] >= before + 3:
            return before, upload
        data(finish(store, upload))
        return None

    before, upload = wait_for(sent, what="chunks that are counted", deadline_s=60)
    data(finish(store, upload))
    wait_for(lambda: store.census()["uploads"] <= before, what="the chunks to go", deadline_s=60)


# --- GET /download -----------------------------------------------------------------------------


def test_a_download_by_header_query_or_bearer(
    store: SurfaceStore, body: bytes, stored: Token
) -> None:
    token = stored["token"]
    for path, headers in (
        ("/download", stored),
        ("/download", {"Token": token}),
        (f"/download?token={quote(token)}", {}),
        ("/download", {"Authorization": f"Bearer {token}"}),
    ):
        for at in (0, 1):
            assert ask(store, "GET", path, headers=headers, at=at).expect(200).body == body, path
    head = ask(store, "HEAD", "/download", headers=stored).expect(200)
    assert (head.headers["Content-Length"], head.body) == (str(len(body)), b"")


def test_ranges_and_conditions_of_a_download(
    store: SurfaceStore, body: bytes, stored: Token
) -> None:
    whole = ask(store, "GET", "/download", headers=stored).expect(200)
    etag = whole.headers["ETag"]
    assert etag.startswith('"') and etag.endswith('"')

    def get(**fields: str) -> Answer:
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        return ask(store, "GET", "/download", headers={**stored, **headers}, at=1)

    part = get(Range="bytes=5-9").expect(206)
    assert part.body == body[5:10]
    assert part.headers["Content-Range"] == f"bytes 5-9/{len(body)}"
    assert get(Range="bytes=-7").expect(206).body == body[-7:]
    assert get(Range=f"bytes={STRIPE - 3}-").expect(206).body == body[STRIPE - 3 :]
    assert get(Range="bytes=5-9", If_Range=etag).expect(206).body == body[5:10]
    assert get(Range="bytes=5-9", If_Range='"other"').expect(200).body == body
    assert (get(If_None_Match=etag).status, get(If_None_Match=etag).body) == (304, b"")
    assert get(If_None_Match='"other"').expect(200).body == body
    refused(get(If_Match='"other"'), 412, 5549)
    refused(get(If_Unmodified_Since="Thu, 01 Jan 1970 00:00:01 GMT"), 412, 5549)
    assert get(If_Match=etag, Range="bytes=0-0").expect(206).body == body[:1]
    beyond = get(Range=f"bytes={len(body)}-")
    refused(beyond, 416, 5549)
    assert beyond.headers["Content-Range"] == f"bytes */{len(body)}"


@pytest.mark.parametrize(
    "name", ["plain.txt", "two words.bin", 'quo"te.txt', "naïve 名前 🦀.pdf", "a;b,c=d.txt"]
)
def test_the_file_name_comes_back_quoted(
    store: SurfaceStore, body: bytes, upload: Token, name: str
) -> None:
    data(send_chunk(store, upload, 0, body))
    data(finish(store, upload, name=name))
    found = ask(store, "HEAD", "/download", headers=tokens.for_download(store, body)).expect(200)
    disposition = found.headers["Content-Disposition"]
    assert 'filename="' in disposition, disposition
    if name.isascii():
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        assert f'filename="{quoted}"' in disposition or "filename*=UTF-8''" in disposition
    else:
        assert f"filename*=UTF-8''{quote(name, safe='')}" in disposition, disposition
    info = data(ask(store, "GET", "/file/info", headers={**tokens.system(store), **upload}))
    assert info["name"] == name


def test_a_name_cannot_break_out_of_its_header(
    store: SurfaceStore, body: bytes, upload: Token
) -> None:
    data(send_chunk(store, upload, 0, body))
    data(finish(store, upload, name="\r\nX: y\r\n\r\n<script>"))
    found = ask(store, "GET", "/download", headers=tokens.for_download(store, body)).expect(200)
    assert found.headers["X"] is None and found.body == body
    said = found.headers["Content-Disposition"]
    assert said == "attachment; filename=\"X_ y_script_\"; filename*=UTF-8''X%3A%20y%3Cscript%3E"
    info = data(ask(store, "GET", "/file/info", headers={**tokens.system(store), **upload}))
    assert info["name"] == "X: y<script>"


def test_an_unknown_file_is_5547(store: SurfaceStore) -> None:
    token = mint(store, "download", "ab" * 32)
    for method in ("GET", "HEAD"):
        answer = ask(store, method, "/download", headers=token)
        assert answer.status == 404
    refused(ask(store, "GET", "/download", headers=token, at=1), 404, 5547)


# --- /file/info and DELETE /file ---------------------------------------------------------------


def test_info_describes_a_file(store: SurfaceStore, body: bytes, upload: Token) -> None:
    data(send_chunk(store, upload, 0, body))
    data(finish(store, upload, name="its name.bin"))
    for token in (upload, tokens.for_download(store, body)):
        headers = {**tokens.system(store), **token}
        info = data(ask(store, "GET", "/file/info", headers=headers, at=1))
        assert set(info) >= {"size", "name", "hash", "create_time", "server_ip"}
        digest = sha256(body).hexdigest()
        assert (info["size"], info["name"], info["hash"]) == (len(body), "its name.bin", digest)
        assert info["create_time"] and isinstance(info["server_ip"], list)
        assert len(info["server_ip"]) >= 1


def test_info_and_delete_of_an_unknown_file_are_404(store: SurfaceStore) -> None:
    headers = {**tokens.system(store), **mint(store, "download", "cd" * 32)}
    refused(ask(store, "GET", "/file/info", headers=headers), 404, 5547)
    refused(ask(store, "DELETE", "/file", headers=headers), 404, 5547)


def test_a_deleted_file_is_gone_and_can_come_again(
    store: SurfaceStore, body: bytes, upload: Token, stored: Token
) -> None:
    assert data(tokens.remove(store, sha256(body).hexdigest())) == {"status": "success"}
    for at in (0, 1):
        refused(ask(store, "GET", "/download", headers=stored, at=at), 404, 5547)
    refused(tokens.remove(store, sha256(body).hexdigest()), 404, 5547)
    for number, part in enumerate(cut(body, 3)):
        data(send_chunk(store, upload, number, part, at=number))
    data(finish(store, upload))
    file_at(store, body).check(body)


def test_shards_of_a_deleted_file_stay_while_something_else_needs_them(
    store: SurfaceStore, body: bytes, stored: Token
) -> None:
    store.put("shares/the same bytes", body)
    data(tokens.remove(store, sha256(body).hexdigest()))

    def collected() -> bool:
        census = store.census()
        return not (census["dead_stripes"] or census["trash"] or census["graveyard"])

    wait_for(collected, what="what nobody needs to be collected", deadline_s=90)
    assert store.get("shares/the same bytes") == body
    store.remove_for_good("shares/the same bytes")
