"""The token API as a client sees it: headers, envelope, multipart bodies."""

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import quote, urlencode

from tests.cluster.local import Answer, wait_for
from tests.surface.cluster import SurfaceStore

Token = dict[str, str]
"""The header that carries one."""
BOUNDARY = "----surface-of-the-store-7d1b"
CODES = {
    5500, 5502, 5521, 5523, 5524, 5531, 5533, 5541, 5543, 5544, 5545, 5546, 5547, 5549,
}  # fmt: skip


def system(store: SurfaceStore, token: str = "") -> dict[str, str]:
    """The header of a back end."""
    return {"systemToken": token or store.facts()["system_token"]}


def ask(
    store: SurfaceStore,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    at: int = 0,
) -> Answer:
    """A request without any access key."""
    return store.ask(method, path, headers=headers, body=body, at=at, anonymous=True)


def mint(store: SurfaceStore, kind: str, content_hash: str, *, at: int = 0, **more: int) -> Token:
    """The header with a fresh token; `kind` is "upload" or "download"."""
    query = urlencode({"hash": content_hash, **more})
    answer = ask(store, "GET", f"/{kind}/token?{query}", headers=system(store), at=at)
    return {"token": str(data(answer)["token"])}


def for_download(store: SurfaceStore, body: bytes) -> Token:
    """A download token for these bytes."""
    return mint(store, "download", sha256(body).hexdigest())


def data(answer: Answer) -> Any:
    """What a success carries; AssertionError unless it is one, in its envelope."""
    assert answer.status == 200, (answer.status, answer.body[:500])
    found = answer.json()
    assert set(found) == {"status", "code", "msg", "data"}, found
    assert (found["status"], found["code"], found["msg"]) == (True, 200, ""), found
    return found["data"]


def refused(answer: Answer, status: int, code: int | None = None) -> str:
    """What a failure says; AssertionError unless it is this one, in its envelope."""
    assert answer.status == status, (answer.status, answer.body[:500])
    found = answer.json()
    assert set(found) == {"status", "code", "msg", "data"}, found
    assert found["status"] is False and found["data"] is None and found["msg"], found
    assert found["code"] in CODES and code in (None, found["code"]), (code, found)
    return str(found["msg"])


def payload(token: Mapping[str, str]) -> Any:
    """What a token says of itself."""
    text = token["token"].partition(".")[0]
    return json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def multipart(body: bytes, *, part: str = "file", name: str = "a file.bin") -> dict[str, Any]:
    """Headers and body of a form with one file, as arguments of a request."""
    disposition = f'form-data; name="{part}"; filename="{name}"'
    head = (
        f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n"
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return {
        "headers": {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"},
        "body": head.encode() + body + f"\r\n--{BOUNDARY}--\r\n".encode(),
    }


def send_file(
    store: SurfaceStore, path: str, token: Mapping[str, str], body: bytes, *, at: int = 0
) -> Answer:
    """POST a form with one file."""
    form = multipart(body)
    return ask(store, "POST", path, headers={**form["headers"], **token}, body=form["body"], at=at)


def send_chunk(
    store: SurfaceStore,
    token: Mapping[str, str],
    number: int | str,
    body: bytes,
    *,
    at: int = 0,
    path: str = "/upload/chunk?chunk=",
) -> Answer:
    """POST one chunk."""
    return send_file(store, path + quote(str(number)), token, body, at=at)


def finish(
    store: SurfaceStore,
    token: Mapping[str, str],
    *,
    name: str | None = "a file.bin",
    at: int = 0,
    method: str = "POST",
) -> Answer:
    """Put the chunks together."""
    path = "/upload/finish" + ("" if name is None else f"?file_name={quote(name)}")
    return ask(store, method, path, headers={**system(store), **token}, at=at)


def remove(store: SurfaceStore, content_hash: str) -> Answer:
    """DELETE /file of that hash."""
    token = mint(store, "download", content_hash)
    return ask(store, "DELETE", "/file", headers={**system(store), **token})


def wait_refused(store: SurfaceStore, token: Mapping[str, str], path: str) -> Answer:
    """The first refusal of a token that is about to expire."""

    def attempt() -> Answer | None:
        found = ask(store, "GET", path, headers=token)
        return found if found.status in (401, 403) else None

    return wait_for(attempt, what="the token to expire", deadline_s=10)
