"""Requests, most of them bad: good ones of every kind, spoiled in one place or several."""

import json
from base64 import b64encode
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random

from tests.surface.fuzz import spoiling
from tests.surface.tokens import BOUNDARY

WHOLE_SHARE = 0.85
"""So many shots are at least whole requests; the others are bytes."""
SPOIL_SHARE = 0.85
LARGE_BYTES = 9_000_000


@dataclass
class Material:
    """What requests of a running store are made of; renewed while the shots go on."""

    authorization: str
    system_token: str
    names: list[str] = field(default_factory=lambda: ["fuzz/a", "fuzz/b c", "fuzz/ü"])
    hashes: list[str] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)
    temps: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)


@dataclass
class Request:
    """A request before it is bytes."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes = b""


@dataclass(frozen=True)
class Shot:
    """Bytes for one connection. `must_answer`: it is a whole request of HTTP, so silence is a
    fault; else it may be waited for or cut off."""

    sent: bytes
    method: str
    must_answer: bool


OBJECTS = ("GET", "HEAD", "PUT", "POST", "DELETE")
Endpoint = tuple[str, tuple[str, ...], str]
FRONTEND: tuple[Endpoint, ...] = (
    ("/objects/{name}", OBJECTS, "body"),
    ("/objects/{name}?version=1", ("GET", "DELETE"), "none"),
    ("/objects/{name}", ("POST",), "begin"),
    ("/objects/{name}", ("GET",), "range"),
    ("/objects?prefix=fuzz&delimiter=/&after=a&limit=5", ("GET",), "none"),
    ("/buckets/fuzz/objects/{name}", OBJECTS, "body"),
    ("/buckets/fuzz?profile=2%2B1", ("PUT", "GET", "HEAD", "DELETE"), "none"),
    # Again and again: what exists already is a conflict, which few other shots meet.
    *3 * (("/buckets/fuzz?profile=2%2B1", ("PUT",), "none"),),
    ("/buckets/fuzz/versions/{name}?limit=2", ("GET",), "none"),
    ("/buckets", ("GET",), "none"),
    ("/versions/{name}?after=1&limit=2", ("GET",), "none"),
    ("/versions/?limit=3", ("GET",), "none"),
    ("/locate/{name}?all=1", ("GET",), "none"),
    ("/locate/{hash}", ("GET",), "none"),
    ("{upload}", ("HEAD", "PUT", "PATCH", "DELETE"), "append"),
    ("/temp/{name}", ("POST",), "body"),
    ("/temp/{temp}", ("PATCH",), "confirm"),
    ("/temp/{temp}", ("HEAD", "DELETE"), "none"),
    ("/upload/token?hash={hash}&ttl=60&max_size=1000", ("GET", "POST"), "system"),
    ("/download/token?hash={hash}", ("GET", "POST"), "system"),
    ("/server/active", ("GET",), "system"),
    ("/server/token", ("PUT",), "rotate"),
    ("/upload/single", ("POST",), "form"),
    ("/upload/chuck?chuck=1", ("POST",), "form"),
    ("/upload/chunk?chunk=0", ("POST",), "form"),
    ("/upload/finish?file_name=a", ("GET", "POST"), "both"),
    ("/download", ("GET", "HEAD"), "token"),
    ("/download?token={token}", ("GET",), "range"),
    ("/file/info", ("GET",), "both"),
    ("/file", ("DELETE",), "both"),
    ("/v1/keys", ("GET", "POST"), "json"),
    ("/v1/keys/{name}", ("GET", "PATCH", "DELETE"), "json"),
    ("/v1/keys/{name}/rotate", ("POST",), "json"),
    ("/v1/tokens", ("POST",), "json"),
    ("/v1/tokens/{hash}", ("DELETE",), "none"),
    ("/v1/shares", ("POST",), "json"),
    ("/share/{token}", ("GET", "HEAD"), "range"),
    ("/v1/audit?after=1&limit=3&actor=x&action=y", ("GET",), "none"),
    ("/v1/signing-keys", ("GET",), "none"),
    ("/v1/cluster", ("GET",), "none"),
    ("/v1/maintenance?node=blob-1", ("GET",), "none"),
    ("/v1/status", ("GET",), "none"),
    ("/metrics", ("GET",), "none"),
    ("/readyz?verbose", ("GET",), "none"),
    ("/openapi.json", ("GET",), "none"),
    ("/v1/maintenance/prune?bucket=fuzz&keep=5", ("POST",), "none"),
    ("/v1/maintenance/restore?bucket=fuzz&at=2026-03-01", ("POST",), "none"),
    ("/v1/maintenance/undelete?bucket=fuzz&since=1772366400", ("POST",), "none"),
    ("/", ("GET", "OPTIONS"), "none"),
)
BLOB_DAEMON: tuple[Endpoint, ...] = (
    ("/temp/{name}", ("POST",), "body"),
    ("/temp/{temp}", ("PATCH",), "confirm"),
    ("/temp/{temp}", ("HEAD", "DELETE"), "none"),
    ("/v1/shards", ("PUT", "GET", "DELETE", "POST"), "body"),
    ("/v1/status", ("GET",), "none"),
    ("/metrics", ("GET",), "none"),
    ("/readyz?verbose", ("GET",), "none"),
)


class Shooter:
    """Shots from a seed; the same again for the same seed and material."""

    def __init__(self, seed: str, material: Material) -> None:
        self._random = Random(seed)
        self.material = material

    def shot(self, endpoints: tuple[Endpoint, ...]) -> Shot:
        """The next one."""
        rng = self._random
        request = self._good(*rng.choice(endpoints))
        if rng.random() < SPOIL_SHARE:
            for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
                spoiling.spoil(rng, request)
        if rng.random() < WHOLE_SHARE:
            return Shot(spoiling.encode(request), request.method, spoiling.is_whole(request))
        return Shot(spoiling.spoil_bytes(rng, spoiling.encode(request)), "GET", False)

    def _good(self, path: str, methods: tuple[str, ...], kind: str) -> Request:
        rng, have = self._random, self.material
        filled = path.format(
            name=rng.choice(have.names).replace(" ", "%20"),
            hash=rng.choice(have.hashes or ["0" * 64]),
            upload=rng.choice(have.uploads or ["/temp/x"]),
            temp=rng.choice(have.temps or ["x"]),
            token=rng.choice(have.tokens or ["x"]),
        )
        request = Request(rng.choice(methods), filled, [("Host", "store"), ("Connection", "close")])
        if kind not in ("system", "form", "token", "rotate"):
            request.headers.append(("Authorization", have.authorization))
        self._fill(request, kind)
        if request.body or request.method in ("PUT", "POST", "PATCH"):
            request.headers.append(("Content-Length", str(len(request.body))))
        return request

    def _fill(self, request: Request, kind: str) -> None:
        rng, have = self._random, self.material
        add = request.headers.append
        if kind in ("system", "both"):
            add(("systemToken", have.system_token))
        if kind in ("token", "form", "both"):
            add(("token", rng.choice(have.tokens or ["x"])))
        if kind in ("range", "token"):
            add(("Range", f"bytes={rng.randrange(9)}-{rng.randrange(9, 99)}"))
        if kind == "body" and request.method in ("PUT", "POST"):
            request.body = self._bytes()
            if rng.random() < 0.4:
                digest = b64encode(sha256(request.body).digest()).decode()
                add(("Digest", f"SHA-256={digest}"))
        if kind == "append" and request.method in ("PUT", "PATCH"):
            request.body = self._bytes()
            add(("Range", f"bytes={rng.choice((0, 0, 1, 100))}-"))
        if kind == "begin":
            size = rng.choice((0, 5, 100_000, 20_000_000))
            digest = b64encode(rng.randbytes(32)).decode()
            request.headers += [("Digest", f"SHA-256={digest}"), ("Size", str(size))]
        if kind == "form":
            request.body = self._form()
            add(("Content-Type", f"multipart/form-data; boundary={BOUNDARY}"))
        if kind == "rotate":
            # Never both right: who shoots next would have the wrong one.
            add(("systemToken", rng.choice(("x", have.system_token[:-1], ""))))
            request.body = json.dumps({"token": "t" * rng.randrange(300)}).encode()
        if kind in ("json", "confirm"):
            request.body = self._json(kind)

    def _bytes(self) -> bytes:
        rng = self._random
        if rng.random() < 0.005:
            return rng.randbytes(LARGE_BYTES)
        return rng.randbytes(rng.choice((0, 1, 5, 100, 4096, 4097, 70_000)))

    def _form(self) -> bytes:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="f"'
        return head.encode() + b"\r\n\r\n" + self._bytes() + f"\r\n--{BOUNDARY}--\r\n".encode()

    def _json(self, kind: str) -> bytes:
        rng, have = self._random, self.material
        if kind == "confirm":
            return json.dumps({"sha256": rng.choice(have.hashes or ["0"]), "size": 5}).encode()
        value = {
            "scopes": ["download"],
            "buckets": ["fuzz"],
            "prefixes": ["fuzz/"],
            "hash": rng.choice(have.hashes or ["0"]),
            "type": "upload",
            "bucket": "objects",
            "key": "fuzz/a",
            "expires_s": 60,
        }
        return json.dumps({key: value[key] for key in value if rng.random() < 0.6}).encode()
