"""Every way a body can go into the store, each with the way it comes back out."""

import itertools
import json
import secrets
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import quote

from tests.cluster.local import Answer, noise, object_path, text
from tests.surface import tokens
from tests.surface.cluster import SurfaceStore

KIB, MIB = 1 << 10, 1 << 20
INLINE, BLOCK, STRIPE = 4 * KIB, 64 * KIB, 8 * MIB
DATA_SHARDS = 4
FEW = 32
SHARD = STRIPE // DATA_SHARDS
"""Of a full stripe at 4+2, which is what the shared cluster codes."""
BORDERS = (INLINE, BLOCK, BLOCK * DATA_SHARDS, MIB, SHARD, STRIPE, 2 * STRIPE)
SIZES = sorted(
    {0, 1, 3, 4, 5, 31_999, 32_001, 40 * MIB}
    | {border + shift for border in BORDERS for shift in (-1, 0, 1)}
)
KINDS: dict[str, Callable[[int], bytes]] = {
    "zeros": bytes,
    "noise": lambda size: noise(size, seed=size),
    "text": text,
}
# Borders beyond the first stripe are the same for every content; zeros are a text of one word.
SIZES_OF = {
    "zeros": [size for size in SIZES if size <= 32_001],
    "noise": SIZES,
    "text": [size for size in SIZES if size <= STRIPE + 1],
}
REST_OF = {
    kind: [size for size in SIZES if size not in SIZES_OF[kind]] for kind in ("zeros", "text")
}
"""What CI leaves to `make long`."""
VECTORS = {
    b"hello world": "uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=",
    b"this is object test3": "GYqqAdFPt+CScnUDc0/Gcu3kwcWmOADKNYpiZtdbgsM=",
}
NAMES = [
    "a name with spaces",
    " leading and trailing ",
    "nested/deep/er/name",
    "double//slash",
    "ends/with/slash/",
    "..",
    ".",
    "../../etc/passwd",
    "a/../b/./c",
    "percent%20sign%",
    "%2e%2e%2f",
    "plus+and&and=and?and#",
    "quote\"'`$(x);|\\",
    "tab\tand\nnewline",
    "emoji 🦀🗄️ and ünïcödé 名前",
    "n" * 1024,
    "é" * 512,
]


def fresh(label: str) -> str:
    """A name nothing ever had: the numbers of versions go on where a removed object left."""
    return f"{label}-{secrets.token_hex(4)}"


def digest_header(body: bytes) -> dict[str, str]:
    """`Digest` of a body."""
    return {"Digest": "SHA-256=" + b64encode(sha256(body).digest()).decode()}


def cut(body: bytes, count: int) -> list[bytes]:
    """A body in `count` parts whose lengths differ; some may be empty."""
    at = [len(body) * number * number // (count * count) for number in range(count + 1)]
    return [body[first:last] for first, last in itertools.pairwise(at)]


# --- objects: each answers nothing and raises AssertionError; any frontend may be asked ------


def by_put(store: SurfaceStore, name: str, body: bytes) -> None:
    """PUT /objects/NAME."""
    stored = store.ask("PUT", object_path(name), body=body).expect(200).json()
    assert (stored["sha256"], stored["size"]) == (sha256(body).hexdigest(), len(body))


def begin(store: SurfaceStore, name: str, body: bytes, *, at: int = 0) -> Answer:
    """POST /objects/NAME for a resumable upload."""
    headers = {**digest_header(body), "Size": str(len(body))}
    return store.ask("POST", object_path(name), headers=headers, at=at)


def offset(store: SurfaceStore, location: str, *, at: int = 0) -> int:
    """How many bytes an upload holds."""
    found = store.ask("HEAD", location, at=at).expect(200, 204)
    assert found.headers["Upload-Offset"] == found.headers["Content-Length"], found.headers
    return int(found.headers["Upload-Offset"])


def append(store: SurfaceStore, location: str, first: int, part: bytes, *, at: int = 0) -> Answer:
    """PUT more of a resumable upload."""
    return store.ask("PUT", location, body=part, headers={"Range": f"bytes={first}-"}, at=at)


def go_on(store: SurfaceStore, location: str, held: int, body: bytes) -> Answer:
    """The rest of an upload in one PUT; again from where it stands, while a request that was
    cut before goes on landing."""
    for at in range(10):
        answer = append(store, location, held, body[held:], at=at)
        if answer.status not in (409, 416):
            return answer
        held = offset(store, location, at=at)
    return answer


def by_resumable(store: SurfaceStore, name: str, body: bytes) -> None:
    """POST /objects/NAME, then PUT /temp/TOKEN in parts, at two frontends in turn.

    The store must not know the bytes yet, unless they are few.
    """
    begun = begin(store, name, body)
    if begun.status == 200 and len(body) < FEW:
        return  # bytes that other tests may have left
    location = begun.expect(201).headers["Location"]
    assert location.startswith("/temp/")
    held = 0
    for number, part in enumerate(cut(body, 3)):
        assert offset(store, location, at=number) == held
        if not part and held < len(body):
            continue
        answer = append(store, location, held, part, at=number + 1)
        assert 200 <= answer.status < 300, (answer.status, answer.body[:500])
        held += len(part)


def post_temp(store: SurfaceStore, address: str, name: str, body: bytes, **headers: str) -> Answer:
    """POST /temp/NAME at a frontend or a blob daemon."""
    path = "/temp/" + quote(name, safe="/")
    return store.request("POST", path, body=body, headers=headers, address=address)


def confirm(
    store: SurfaceStore, address: str, temp: str, asserted: dict[str, object] | None = None
) -> Answer:
    """PATCH /temp/ID."""
    body = None if asserted is None else json.dumps(asserted).encode()
    return store.request("PATCH", f"/temp/{temp}", body=body, address=address)


def _by_temp(store: SurfaceStore, name: str, body: bytes, first: str, second: str) -> None:
    held = post_temp(store, first, name, body).expect(201).json()
    assert {"id", "sha256", "size", "expires_at"} <= set(held), held
    assert (held["sha256"], held["size"]) == (sha256(body).hexdigest(), len(body))
    facts = {"sha256": held["sha256"], "size": held["size"]}
    stored = confirm(store, second, held["id"], facts).expect(200).json()
    assert stored["name"] == name and isinstance(stored["version"], int), stored
    assert {"sha256": stored["sha256"], "size": stored["size"]} == facts


def by_temp_at_frontend(store: SurfaceStore, name: str, body: bytes) -> None:
    """POST /temp/NAME at one frontend, PATCH at the other."""
    first, second = store.frontends
    _by_temp(store, name, body, first, second)


def by_temp_at_blob_daemon(store: SurfaceStore, name: str, body: bytes) -> None:
    """POST and PATCH /temp at one blob daemon."""
    door = store.blobs[len(body) % len(store.blobs)]
    _by_temp(store, name, body, door, door)


OBJECT_WAYS: dict[str, Callable[[SurfaceStore, str, bytes], None]] = {
    "put": by_put,
    "resumable": by_resumable,
    "temp-frontend": by_temp_at_frontend,
    "temp-blob-daemon": by_temp_at_blob_daemon,
}


# --- files of the token API -------------------------------------------------------------------


def by_single(store: SurfaceStore, body: bytes) -> None:
    """POST /upload/single."""
    token = tokens.mint(store, "upload", sha256(body).hexdigest())
    answer = tokens.send_file(store, "/upload/single", token, body, at=1)
    assert tokens.data(answer) == {"status": "success"}


def by_chunks(store: SurfaceStore, body: bytes, *, order: Sequence[int] = (2, 0, 3, 1)) -> None:
    """POST /upload/chunk out of order at two frontends, then /upload/finish."""
    token = tokens.mint(store, "upload", sha256(body).hexdigest())
    parts = cut(body, len(order))
    for at, number in enumerate(order):
        said = tokens.data(tokens.send_chunk(store, token, number, parts[number], at=at))
        assert (said["status"], said["count"]) == ("success", at + 1), said
        assert sorted(said["received"]) == sorted(order[: at + 1])
    assert tokens.data(tokens.finish(store, token, at=1)) == {"status": "success"}


FILE_WAYS: dict[str, Callable[[SurfaceStore, bytes], None]] = {
    "single": by_single,
    "chunks": by_chunks,
}


# --- and out again ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """Where bytes can be read, from any frontend, whole or in ranges."""

    store: SurfaceStore
    path: str
    headers: dict[str, str]
    anonymous: bool

    def read(self, *, at: int = 0, **headers: str) -> Answer:
        """GET."""
        sent = {**self.headers, **headers}
        return self.store.ask("GET", self.path, headers=sent, at=at, anonymous=self.anonymous)

    def check(self, body: bytes) -> None:
        """AssertionError unless these are the bytes, at both frontends, and in ranges."""
        for at in (0, 1) if len(body) <= MIB else (1,):
            assert self.read(at=at).expect(200).body == body, f"other bytes of {len(body)}"
        size = len(body)
        for first in {0, size // 2, size - BLOCK - 1, SHARD - 3, STRIPE - 1, size - 1}:
            if 0 <= first < size:
                last = min(size - 1, first + 5)
                answer = self.read(at=first, Range=f"bytes={first}-{last}").expect(206)
                assert answer.body == body[first : last + 1], (size, first)
                assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{size}"


def object_at(store: SurfaceStore, name: str) -> Source:
    """GET /objects/NAME."""
    return Source(store, object_path(name), {}, anonymous=False)


def file_at(store: SurfaceStore, body: bytes) -> Source:
    """GET /download of these bytes."""
    token = tokens.mint(store, "download", sha256(body).hexdigest())
    return Source(store, "/download", token, anonymous=True)
