"""Processes die by kill -9 between the chunks of a file, and under its readers."""

from hashlib import sha256

import pytest

from tests.surface import tokens
from tests.surface.cluster import SurfaceStore, steady
from tests.surface.tokens import Token, ask, data, finish, mint, multipart, refused, send_file
from tests.surface.ways import STRIPE, cut, file_at

pytestmark = pytest.mark.cluster


def test_chunks_go_on_through_every_death(store: SurfaceStore, body: bytes, upload: Token) -> None:
    parts = cut(body, 8)

    def send(number: int) -> None:
        form = multipart(parts[number])
        path = f"/upload/chunk?chunk={number}"
        headers = {**form["headers"], **upload}
        answer = steady(store, "POST", path, body=form["body"], headers=headers, at=number)
        # 409: the answer to the first attempt was lost with a frontend.
        assert answer.status in (200, 409), (number, answer.status, answer.body)

    try:
        send(5)
        store.kill("frontend-1")
        send(0)
        send(7)
        store.ossctl("start", "frontend-1")
        store.kill(store.leader())
        send(1)
        store.revive()
        store.kill("blob-1", "blob-4")
        send(6)
        store.kill("frontend-2")
        send(2)
        store.revive()
        store.kill(*store.running())
        store.revive()
        send(4)
        send(3)
        store.mend()
        # The same two again: what was written without them lies on the other four.
        store.kill("blob-1", "blob-4")
        headers = {**tokens.system(store), **upload}
        data(steady(store, "POST", "/upload/finish?file_name=x", headers=headers))
        file_at(store, body).check(body)
    finally:
        store.revive()
    data(finish(store, upload, at=1))
    file_at(store, body).check(body)


def test_with_one_daemon_left_an_upload_is_5502(
    store: SurfaceStore, body: bytes, upload: Token
) -> None:
    store.kill(*(f"blob-{number}" for number in range(1, 6)))
    try:
        for path in ("/upload/single", "/upload/chunk?chunk=0"):
            answer = send_file(store, path, upload, body)
            refused(answer, 503, 5502)
            assert answer.headers["Retry-After"]
    finally:
        store.revive()
    data(send_file(store, "/upload/single", upload, body))
    file_at(store, body).check(body)


def test_a_file_that_cannot_be_rebuilt_now_is_5544(store: SurfaceStore) -> None:
    body = store.put_whole("rebuild/me", STRIPE, seed=2_024)
    data(send_file(store, "/upload/single", mint(store, "upload", sha256(body).hexdigest()), body))
    download = tokens.for_download(store, body)
    store.kill("blob-1", "blob-2")
    try:
        assert ask(store, "GET", "/download", headers=download).expect(200).body == body
        store.kill("blob-3")
        refused(ask(store, "GET", "/download", headers=download, at=1), 503, 5544)
    finally:
        store.revive()
    assert ask(store, "GET", "/download", headers=download).expect(200).body == body
