"""Tokens that are forged, cut, expired, revoked, of another kind or content."""

import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from hashlib import sha256

import pytest

from tests.cluster.local import Answer, wait_for
from tests.surface import tokens
from tests.surface.cluster import SurfaceStore
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
from tests.surface.ways import file_at

pytestmark = pytest.mark.cluster


def spoiled(token: str) -> Iterator[str]:
    """Everything one might try with a token one was given."""
    text, _, mac = token.partition(".")
    decoded = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    yield from ("x", ".", "..", f"{text}.", f".{mac}", text, mac, f"{text}.{mac}.{mac}")
    yield from (f"{text}.{'0' * 64}", f"{text}.{mac.upper()}x", token + "00", "A" * 5000)
    for at in (0, len(text) // 2, len(text) - 3):
        yield token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
    for at in (len(text) + 1, len(token) - 1):
        yield token[:at] + ("0" if token[at] != "0" else "1") + token[at + 1 :]
    for count in (1, 10, len(mac), len(token) // 2):
        yield token[:-count]
    for old, new in ((b'"token_type":', b'"token_type":3'), (b'"hash":"', b'"hash":"f')):
        assert old in decoded
        yield urlsafe_b64encode(decoded.replace(old, new)).decode() + f".{mac}"
    yield urlsafe_b64encode(b"{}").decode() + "." + mac
    yield urlsafe_b64encode(b"[" * 2000).decode() + "." + mac


TOKEN_ROWS = (
    ("upload", "POST", "/upload/single"),
    ("upload", "POST", "/upload/chunk?chunk=0"),
    ("upload", "POST", "/upload/chuck?chuck=0"),
    ("upload", "POST", "/upload/finish?file_name=x"),
    ("upload", "GET", "/upload/finish?file_name=x"),
    ("download", "GET", "/download"),
)
ANY_TOKEN_ROWS = (
    ("download", "GET", "/file/info"),
    ("download", "DELETE", "/file"),
)
"""Here the system token is the right, and a token of either kind says which file."""


def attempt(store: SurfaceStore, method: str, path: str, token: Token, at: int = 0) -> Answer:
    """One use of a token."""
    needs_system = "finish" in path or path.startswith("/file")
    headers = {**token, **(tokens.system(store) if needs_system else {})}
    form = multipart(b"x") if method == "POST" and "finish" not in path else {}
    return ask(
        store,
        method,
        path,
        headers={**headers, **form.get("headers", {})},
        body=form.get("body"),
        at=at,
    )


@pytest.mark.parametrize(("kind", "method", "path"), TOKEN_ROWS + ANY_TOKEN_ROWS)
def test_a_token_that_is_not_ours_is_5531(
    store: SurfaceStore, kind: str, method: str, path: str
) -> None:
    good = mint(store, kind, sha256(b"x").hexdigest())["token"]
    refused(attempt(store, method, path, {}), 401, 5531)
    for number, forged in enumerate(spoiled(good)):
        answer = attempt(store, method, path, {"token": forged}, at=number)
        assert answer.status in (401, 403), (forged, answer.status, answer.body)
        refused(answer, answer.status, 5531)


@pytest.mark.parametrize(("kind", "method", "path"), TOKEN_ROWS)
def test_a_token_of_the_other_type_is_5531(
    store: SurfaceStore, kind: str, method: str, path: str
) -> None:
    other = mint(store, "download" if kind == "upload" else "upload", sha256(b"x").hexdigest())
    answer = attempt(store, method, path, other)
    assert answer.status in (401, 403)
    refused(answer, answer.status, 5531)


def test_an_expired_token_is_5531_at_every_door(store: SurfaceStore) -> None:
    digest = sha256(b"x").hexdigest()
    brief = {kind: mint(store, kind, digest, ttl=1) for kind in ("upload", "download")}
    last_s = max(tokens.payload(token)["expire_at"] for token in brief.values())
    wait_for(lambda: time.time() > last_s + 0.1, what="both to expire")
    for kind, method, path in TOKEN_ROWS + ANY_TOKEN_ROWS:
        for at in (0, 1):
            refused(attempt(store, method, path, brief[kind], at=at), 401, 5531)
    refused(attempt(store, "GET", "/download", mint(store, "download", digest)), 404, 5547)


def test_a_revoked_token_is_5531_at_every_door(store: SurfaceStore) -> None:
    digest = sha256(b"x").hexdigest()
    doomed = {kind: mint(store, kind, digest) for kind in ("upload", "download")}
    for at, token in enumerate(doomed.values()):
        store.ask("DELETE", f"/v1/tokens/{tokens.payload(token)['jti']}", at=at).expect(200, 204)
    for kind, method, path in TOKEN_ROWS + ANY_TOKEN_ROWS:
        for at in (0, 1):
            refused(attempt(store, method, path, doomed[kind], at=at), 401, 5531)
    refused(attempt(store, "GET", "/download", mint(store, "download", digest)), 404, 5547)


def test_a_bad_token_removes_and_tells_nothing(
    store: SurfaceStore, body: bytes, stored: Token
) -> None:
    forged = {"token": stored["token"][:-1] + ("0" if stored["token"][-1] != "0" else "1")}
    for bad in (forged, {"token": "x"}, {}):
        for method, path in (("GET", "/file/info"), ("DELETE", "/file")):
            refused(attempt(store, method, path, bad), 401, 5531)
    assert ask(store, "GET", "/download", headers=stored).expect(200).body == body


def test_chunks_outlive_the_token_that_brought_them(store: SurfaceStore, body: bytes) -> None:
    digest, half = sha256(body).hexdigest(), len(body) // 2
    brief = mint(store, "upload", digest, ttl=2)
    data(send_chunk(store, brief, 0, body[:half]))
    expires_s = tokens.payload(brief)["expire_at"]
    wait_for(lambda: time.time() > expires_s + 0.1, what="the token to expire")
    refused(send_chunk(store, brief, 1, body[half:], at=1), 401, 5531)
    refused(finish(store, brief), 401, 5531)
    another = mint(store, "upload", digest)
    assert data(send_chunk(store, another, 1, body[half:], at=1))["received"] == [0, 1]
    data(finish(store, another))
    file_at(store, body).check(body)


def test_a_bearer_is_a_token_at_every_door(store: SurfaceStore, body: bytes) -> None:
    digest, half = sha256(body).hexdigest(), len(body) // 2
    upload, download = (
        {"Authorization": "Bearer " + mint(store, kind, digest)["token"]}
        for kind in ("upload", "download")
    )
    for number, part in enumerate((body[:half], body[half:])):
        data(send_chunk(store, upload, number, part, at=number))
    data(finish(store, upload, method="GET", at=1))
    info = data(attempt(store, "GET", "/file/info", {**download, **tokens.system(store)}))
    assert (info["hash"], info["size"]) == (digest, len(body))
    assert ask(store, "GET", "/download", headers=download).expect(200).body == body
    refused(ask(store, "GET", "/download", headers=upload), 403, 5531)
    data(attempt(store, "DELETE", "/file", upload))
    data(send_file(store, "/upload/single", upload, body, at=1))
    assert ask(store, "GET", "/download", headers=download, at=1).expect(200).body == body
    refused(send_file(store, "/upload/single", download, body), 403, 5531)


def test_a_token_of_type_3_brings_and_takes(store: SurfaceStore, body: bytes) -> None:
    digest = sha256(body).hexdigest()
    wish = json.dumps({"type": "both", "hash": digest, "ttl_s": 60}).encode()
    made = store.ask("POST", "/v1/tokens", body=wish).expect(201).json()
    both = {"token": made["token"]}
    said = tokens.payload(both)
    assert (said["token_type"], said["hash"], said["jti"]) == (3, digest, made["jti"])
    data(send_chunk(store, both, 0, body))
    data(finish(store, both, at=1))
    for at in (0, 1):
        assert ask(store, "GET", "/download", headers=both, at=at).expect(200).body == body
    data(attempt(store, "DELETE", "/file", both))
    data(send_file(store, "/upload/single", both, body))
    store.ask("DELETE", f"/v1/tokens/{made['jti']}").expect(200, 204)
    refused(ask(store, "GET", "/download", headers=both, at=1), 401, 5531)
    refused(send_file(store, "/upload/single", both, body, at=1), 401, 5531)


def test_a_token_ends_when_it_expires(store: SurfaceStore, body: bytes, stored: Token) -> None:
    digest = sha256(body).hexdigest()
    brief = mint(store, "download", digest, ttl=2)
    assert ask(store, "GET", "/download", headers=brief).expect(200).body == body
    refused(tokens.wait_refused(store, brief, "/download"), 401, 5531)
    refused(ask(store, "GET", "/download", headers=brief, at=1), 401, 5531)
    assert ask(store, "GET", "/download", headers=stored).expect(200).body == body


def test_a_token_of_another_hash_takes_no_other_content(
    store: SurfaceStore, body: bytes, stored: Token
) -> None:
    other = mint(store, "upload", sha256(b"another content").hexdigest())
    refused(send_file(store, "/upload/single", other, body), 422, 5543)
    elsewhere = mint(store, "download", sha256(b"yet another").hexdigest())
    refused(ask(store, "GET", "/download", headers=elsewhere), 404, 5547)


def test_a_revoked_token_ends_on_both_frontends_at_once(
    store: SurfaceStore, body: bytes, stored: Token
) -> None:
    for at in (0, 1):
        doomed = mint(store, "download", sha256(body).hexdigest(), at=at)
        for door in (0, 1):
            ask(store, "GET", "/download", headers=doomed, at=door).expect(200)
        jti = tokens.payload(doomed)["jti"]
        store.ask("DELETE", f"/v1/tokens/{jti}", at=at).expect(200, 204)
        for door in (1, 0):
            refused(ask(store, "GET", "/download", headers=doomed, at=door), 401, 5531)
    ask(store, "GET", "/download", headers=stored).expect(200)


def test_rotating_the_signing_key_ends_all_its_tokens(
    store: SurfaceStore, body: bytes, stored: Token
) -> None:
    rotate = "/v1/signing-keys/rotate"
    store.ask("POST", rotate, body=b'{"overlap_s": 3600}').expect(200)
    ask(store, "GET", "/download", headers=stored, at=1).expect(200)
    middle = tokens.for_download(store, body)
    assert tokens.payload(middle)["kid"] != tokens.payload(stored)["kid"]
    store.ask("POST", rotate, body=b'{"overlap_s": 0}').expect(200)
    # Without an overlap every former key ends, also one that had time left.
    for former in (stored, middle):
        for at in (1, 0):
            refused(ask(store, "GET", "/download", headers=former, at=at), 401, 5531)
    after = tokens.for_download(store, body)
    for at in (1, 0):
        ask(store, "GET", "/download", headers=after, at=at).expect(200)
