"""What a patient client does to bring a body in, however often it is interrupted."""

import http.client
import itertools
import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from tests.big.content import Content
from tests.cluster.local import Answer, object_path
from tests.surface import tokens
from tests.surface.cluster import SurfaceStore, steady
from tests.surface.resume.trouble import BROKEN, Trouble
from tests.surface.ways import Source, object_at

ATTEMPTS_MAX = 60
CHUNKS = 16
CHUNK_PATHS = ("/upload/chunk?chunk=", "/upload/chuck?chuck=")
OFFSET_HEADERS: tuple[Callable[[int], dict[str, str]], ...] = (
    lambda held: {"Range": f"bytes={held}-"},
    lambda held: {"Upload-Offset": str(held)},
)


def door(path: str) -> str:
    """A path without the names, handles and arguments in it."""
    found = re.match(r"/upload/\w+|/\w+", path)
    assert found, path
    return found[0]


class NotTaken(Exception):
    """The store did not take the body, though it was sent again and again."""


@dataclass
class Journey:
    """One body on its way in, under one name."""

    store: SurfaceStore
    trouble: Trouble
    content: Content
    name: str
    sent_bytes: int = 0
    requests: int = 0
    doors: set[str] = field(default_factory=set)
    """What took the body or parts of it: method, path without names, role of the node."""

    @property
    def sha256(self) -> str:
        """Hex digest of the body."""
        return self.content.sha256()

    def send(
        self,
        method: str,
        path: str,
        node: str,
        *,
        first: int = 0,
        last: int | None = None,
        headers: Mapping[str, str] | None = None,
        around: tuple[bytes, bytes] = (b"", b""),
    ) -> Answer | None:
        """Bytes [first, last] of the body to a node, between two other pieces; None: it broke."""
        end = self.content.size_bytes - 1 if last is None else last
        size_bytes = end - first + 1
        pieces = self._counted(self.content.pieces(first, end))
        body = self.trouble.disturbed(_between(around, pieces), size_bytes, node)
        length = {"Content-Length": str(size_bytes + sum(map(len, around)))}
        self.requests += 1
        self.doors.add(f"{method} {door(path)} of a {node.partition('-')[0]}")
        try:
            found = self.store.request(
                method,
                path,
                body=body,
                headers={**(headers or {}), **length},
                address=self.address(node),
            )
        except BROKEN:
            found = None
        self.trouble.heal()
        return found

    def address(self, node: str) -> str:
        """host:port of a frontend or blob daemon."""
        found = self.store.node(node)
        return str(found.get("api") or found["http"]).removeprefix("http://")

    def _counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.sent_bytes += len(piece)
            yield piece


def _between(around: tuple[bytes, bytes], pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield around[0]
    yield from pieces
    yield around[1]


def turns() -> Iterator[str]:
    """Frontends in turn, as often as anybody may try."""
    for number in range(ATTEMPTS_MAX):
        yield f"frontend-{number % 2 + 1}"


def by_put(journey: Journey) -> Source:
    """PUT /objects/NAME, from the start each time; as an object of a bucket by turns."""
    paths = itertools.cycle(
        [object_path(journey.name), "/buckets/objects" + object_path(journey.name)]
    )
    for node, path in zip(turns(), paths, strict=False):
        answer = journey.send("PUT", path, node)
        if answer is not None and answer.status == 200:
            assert answer.json()["sha256"] == journey.sha256
            return object_at(journey.store, journey.name)
    raise NotTaken("PUT")


def by_resumable(journey: Journey) -> Source:
    """POST /objects/NAME, then PUT /temp/TOKEN from wherever it stands, told in either header."""
    digest = b64encode(bytes.fromhex(journey.sha256)).decode()
    size_bytes = journey.content.size_bytes
    headers = {"Digest": f"SHA-256={digest}", "Size": str(size_bytes)}
    begun = steady(journey.store, "POST", object_path(journey.name), headers=headers)
    location = begun.expect(201).headers["Location"]
    headers_of_offset = itertools.cycle(OFFSET_HEADERS)
    for node in turns():
        held = int(steady(journey.store, "HEAD", location).expect(200).headers["Upload-Offset"])
        where = next(headers_of_offset)(held)
        answer = journey.send("PUT", location, node, first=held, headers=where)
        if answer is not None and answer.status < 300:
            held = int(answer.headers["Upload-Offset"])
        if held == size_bytes and journey.store.versions(journey.name):
            return object_at(journey.store, journey.name)
    raise NotTaken("PUT /temp")


def _form(upload: tokens.Token) -> tuple[dict[str, str], tuple[bytes, bytes]]:
    """Headers of a form with one file, and what stands before and after the file."""
    form = tokens.multipart(b"\0", name="big")
    head, tail = form["body"].split(b"\0")
    return {**form["headers"], **upload}, (head, tail)


def by_single(journey: Journey) -> Source:
    """POST /upload/single, from the start each time."""
    store, digest = journey.store, journey.sha256
    headers, around = _form(tokens.mint(store, "upload", digest))
    for node in turns():
        answer = journey.send("POST", "/upload/single", node, headers=headers, around=around)
        if answer is not None and answer.status == 200:
            tokens.data(answer)
            return Source(
                store, "/download", tokens.mint(store, "download", digest), anonymous=True
            )
    raise NotTaken("POST /upload/single")


def by_chunks(journey: Journey) -> Source:
    """POST /upload/chunk and /upload/chuck in any order, each until it is held; /upload/finish."""
    store, size_bytes, digest = journey.store, journey.content.size_bytes, journey.sha256
    upload = tokens.mint(store, "upload", digest)
    headers, around = _form(upload)
    numbers = list(range(CHUNKS))
    journey.trouble.random.shuffle(numbers)
    for number in numbers:
        first, last = number * size_bytes // CHUNKS, (number + 1) * size_bytes // CHUNKS - 1
        for node in turns():
            answer = journey.send(
                "POST",
                f"{CHUNK_PATHS[number % 2]}{number}",
                node,
                first=first,
                last=last,
                headers=headers,
                around=around,
            )
            if answer is not None and answer.status in (200, 409):
                break
        else:
            raise NotTaken(f"chunk {number}")
    system = {**tokens.system(store), **upload}
    done = steady(store, "POST", "/upload/finish?file_name=big", headers=system, deadline_s=300)
    tokens.data(done)
    return Source(store, "/download", tokens.mint(store, "download", digest), anonymous=True)


def _by_temp(journey: Journey, poster: Callable[[], Iterator[str]]) -> Source:
    path, trouble = "/temp/" + quote(journey.name), journey.trouble
    reserved = min(1, trouble.kills_left)
    trouble.kills_left -= reserved
    for node in poster():
        answer = journey.send("POST", path, node)
        if answer is not None and answer.status == 201:
            break
    else:
        raise NotTaken("POST /temp")
    # The last kill is for the PATCH.
    trouble.kills_left, trouble.cuts_left = reserved, 0
    facts = answer.json()
    assert facts["sha256"] == journey.sha256
    asserted = json.dumps({"sha256": facts["sha256"], "size": facts["size"]}).encode()
    for node in poster():
        try:
            if trouble.kills_left:
                # Who is asked dies while, or after, the body is taken in.
                _ask_and_kill(journey, node, facts["id"], asserted)
            confirmed = journey.store.request(
                "PATCH", f"/temp/{facts['id']}", body=asserted, address=journey.address(node)
            )
        except BROKEN:
            continue
        if confirmed.status == 200:
            assert confirmed.json()["version"] == 1, confirmed.body
            return object_at(journey.store, journey.name)
    raise NotTaken("PATCH")


def _ask_and_kill(journey: Journey, node: str, temp: str, asserted: bytes) -> None:
    """Send a PATCH, do not wait for the answer, kill who has it."""
    connection = http.client.HTTPConnection(journey.address(node), timeout=5)
    try:
        headers = journey.store.authorization()
        connection.request("PATCH", f"/temp/{temp}", body=asserted, headers=headers)
        journey.trouble.strike(node)
    finally:
        connection.close()
        journey.trouble.heal()


def by_temp_at_frontend(journey: Journey) -> Source:
    """POST /temp/NAME at a frontend, PATCH at any."""
    return _by_temp(journey, turns)


def by_temp_at_blob_daemon(journey: Journey) -> Source:
    """POST and PATCH at one blob daemon."""
    return _by_temp(journey, lambda: iter(["blob-3"] * ATTEMPTS_MAX))


WAYS: dict[str, Callable[[Journey], Source]] = {
    "put": by_put,
    "resumable": by_resumable,
    "single": by_single,
    "chunks": by_chunks,
    "temp-frontend": by_temp_at_frontend,
    "temp-blob-daemon": by_temp_at_blob_daemon,
}
