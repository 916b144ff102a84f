"""What nobody finishes or confirms expires, and its space comes back."""

import time
from collections import Counter
from collections.abc import Callable
from hashlib import sha256

import pytest

from tests.cluster.local import noise, object_path, wait_for
from tests.surface import tokens
from tests.surface.cluster import SHORT_LIVES, SurfaceStore
from tests.surface.tokens import data, finish, mint, refused, send_chunk
from tests.surface.ways import (
    MIB,
    STRIPE,
    append,
    begin,
    confirm,
    digest_header,
    fresh,
    object_at,
    offset,
    post_temp,
)

pytestmark = pytest.mark.cluster

DEADLINE_S = 60.0
CODED = 3 / 2
"""Three daemons code 2+1."""
ABANDONED_BYTES = 2 * STRIPE + 1
EMPTIED_BYTES = 3 * 2 * MIB + MIB
"""What may stay on three disks: a volume each that is too small to rewrite, and indexes."""
LIFE_S = float(SHORT_LIVES["OSS_UPLOAD_EXPIRY_S"])


def test_an_abandoned_upload_expires_to_404(hasty: SurfaceStore) -> None:
    name, body = fresh("expiry/upload"), noise(3 * MIB, seed=301)
    location = begin(hasty, name, body).expect(201).headers["Location"]
    assert append(hasty, location, 0, body[:MIB]).status < 300
    assert offset(hasty, location) == MIB
    wait_for(
        lambda: hasty.ask("HEAD", location).status == 404,
        what="the upload to expire",
        deadline_s=DEADLINE_S,
    )
    for at in (0, 1):
        assert hasty.ask("HEAD", location, at=at).status == 404
        assert append(hasty, location, MIB, body[MIB:], at=at).status == 404
    assert hasty.versions(name) == []
    again = begin(hasty, name, body).expect(201).headers["Location"]
    assert append(hasty, again, 0, body).status < 300
    object_at(hasty, name).check(body)


def test_an_upload_that_goes_on_does_not_expire(hasty: SurfaceStore) -> None:
    """Its life counts from the last byte, not from the first."""
    name, body = fresh("expiry/alive"), noise(16 * 65_536, seed=302)
    location = begin(hasty, name, body).expect(201).headers["Location"]
    began_s, held = time.monotonic(), 0
    while held < len(body):
        # 16 parts over four times as long as an upload lives.
        at_s = began_s + held / len(body) * 4 * LIFE_S
        wait_for(lambda at_s=at_s: time.monotonic() >= at_s, what="the next part's time")
        part = body[held : held + 65_536]
        assert append(hasty, location, held, part, at=held).status < 300
        held += len(part)
    object_at(hasty, name).check(body)


@pytest.mark.parametrize("door", ["frontend", "blob-daemon"])
def test_a_body_never_confirmed_expires_to_404(hasty: SurfaceStore, door: str) -> None:
    address = hasty.frontends[0] if door == "frontend" else hasty.blobs[1]
    name, body = fresh("expiry/temp"), noise(2 * MIB, seed=303)
    temp = post_temp(hasty, address, name, body).expect(201).json()["id"]
    hasty.request("HEAD", f"/temp/{temp}", address=address).expect(200, 204)
    wait_for(
        lambda: hasty.request("HEAD", f"/temp/{temp}", address=address).status == 404,
        what="the body to expire",
        deadline_s=DEADLINE_S,
    )
    assert confirm(hasty, address, temp).status == 404
    assert hasty.request("DELETE", f"/temp/{temp}", address=address).status in (204, 404)
    assert hasty.ask("GET", object_path(name)).status == 404
    assert hasty.versions(name) == []


def test_chunks_nobody_finishes_expire(hasty: SurfaceStore) -> None:
    body = noise(2 * MIB, seed=304)
    upload = mint(hasty, "upload", sha256(body).hexdigest())
    data(send_chunk(hasty, upload, 0, body[:MIB]))
    wait_for(
        lambda: hasty.census()["uploads"] == 0, what="the chunks to expire", deadline_s=DEADLINE_S
    )
    refused(finish(hasty, upload), 422, 5543)
    data(send_chunk(hasty, upload, 0, body, at=1))
    data(finish(hasty, upload))
    source = tokens.for_download(hasty, body)
    assert tokens.ask(hasty, "GET", "/download", headers=source).expect(200).body == body


def abandoned_chunks(store: SurfaceStore, body: bytes) -> None:
    """Two chunks nobody finishes."""
    upload = mint(store, "upload", sha256(body).hexdigest())
    for number, part in enumerate((body[: len(body) // 2], body[len(body) // 2 : -1])):
        data(send_chunk(store, upload, number, part, at=number))


def abandoned_upload(store: SurfaceStore, body: bytes) -> None:
    """A resumable upload that lacks one byte."""
    location = begin(store, fresh("expiry/space"), body).expect(201).headers["Location"]
    assert append(store, location, 0, body[:-1]).status < 300


def abandoned_temp(store: SurfaceStore, body: bytes) -> None:
    """A body at a frontend that nobody confirms."""
    post_temp(store, store.frontends[1], fresh("expiry/space"), body).expect(201)


def abandoned_at_daemon(store: SurfaceStore, body: bytes) -> None:
    """Likewise at a blob daemon."""
    post_temp(store, store.blobs[0], fresh("expiry/space"), body).expect(201)


ABANDONED: dict[Callable[[SurfaceStore, bytes], None], float] = {
    abandoned_chunks: CODED,
    abandoned_upload: CODED,
    abandoned_temp: CODED,
    abandoned_at_daemon: 1.0,
}
"""What leaves bytes behind, and how many of the disks a byte of it takes."""


def test_space_of_what_expired_comes_back(hasty: SurfaceStore) -> None:
    before = hasty.wait_collected(deadline_s=DEADLINE_S)["stripes"]
    hasty.settled_volume_bytes()
    empty_bytes = hasty.disk_bytes()
    for number, (abandon, coded) in enumerate(ABANDONED.items()):
        held_bytes, body = hasty.disk_bytes(), noise(ABANDONED_BYTES, seed=310 + number)
        abandon(hasty, body)
        grown_bytes = hasty.disk_bytes() - held_bytes
        assert grown_bytes >= coded * ABANDONED_BYTES * 0.99, (abandon.__name__, grown_bytes)
    assert hasty.census()["stripes"] >= before + 6
    wait_for(
        lambda: hasty.wait_collected(deadline_s=DEADLINE_S)["stripes"] <= before,
        what="the stripes of what expired to go",
        deadline_s=DEADLINE_S,
    )
    wait_for(
        lambda: hasty.disk_bytes() <= empty_bytes + EMPTIED_BYTES,
        what="the bytes of what expired to leave the disks",
        deadline_s=DEADLINE_S,
    )


def looked_through(store: SurfaceStore, query: str = "") -> Counter[str]:
    """Shards of all disks, as the steps of /v1/maintenance/orphans count them."""
    found = Counter[str]()
    for blob in store.cluster()["blobs"]:
        for disk in blob["disks"]:
            for step in store.steps(f"/v1/maintenance/orphans?disk={disk['disk']}{query}"):
                kinds = ("examined", "young", "kept", "shared", "removed")
                found.update({kind: step[kind]["shards"] for kind in kinds})
    return found


def test_orphans_go_and_shards_that_two_objects_share_stay(hasty: SurfaceStore) -> None:
    """Daemons remove orphans in their own time as well, so the command may come second: it is
    given new ones until it was first."""
    names, body = [fresh("orphans/shared") for _ in range(2)], noise(3 * MIB, seed=330)
    for name in names:
        hasty.put(name, body)
    hasty.wait_collected(deadline_s=DEADLINE_S)

    def leave_orphans() -> None:
        """A body that is refused at its end: its shards are there, and nothing names them."""
        wrong = digest_header(b"another body")
        refused = noise(2 * STRIPE, seed=int(time.monotonic() * 1000))
        answer = hasty.ask("PUT", object_path(fresh("refused")), body=refused, headers=wrong)
        assert answer.expect(400).code == "BadDigest"

    def command_was_first() -> bool:
        examined = looked_through(hasty, "&dry_run=1")["examined"]
        leave_orphans()
        seen = looked_through(hasty)
        assert seen["removed"] == 0 and seen["young"] > 0, "within the grace nothing goes"
        assert seen["examined"] > examined

        def gone() -> Counter[str] | None:
            hasty.put("orphans/tick", b"")  # catalog time moves with changes
            nonlocal removed
            removed += looked_through(hasty)["removed"]
            left = looked_through(hasty, "&dry_run=1")
            return left if left["examined"] <= examined else None

        removed = 0
        left = wait_for(gone, what="the orphans to go", deadline_s=DEADLINE_S)
        assert left["removed"] == left["young"] == 0
        return removed > 0

    wait_for(command_was_first, what="the command to find orphans first", deadline_s=DEADLINE_S)
    assert looked_through(hasty, "&dry_run=1")["shared"] >= 3  # of one stripe at 2+1
    hasty.remove_for_good(names[0])
    hasty.wait_collected(deadline_s=DEADLINE_S)
    looked_through(hasty)
    object_at(hasty, names[1]).check(body)
    hasty.remove_for_good(names[1])


def test_a_removed_file_gives_its_stripes_back(hasty: SurfaceStore) -> None:
    hasty.wait_collected(deadline_s=DEADLINE_S)
    before, body = hasty.census()["stripes"], noise(5 * MIB, seed=320)
    upload = mint(hasty, "upload", sha256(body).hexdigest())
    data(tokens.send_file(hasty, "/upload/single", upload, body))
    assert hasty.census()["stripes"] > before
    data(tokens.remove(hasty, sha256(body).hexdigest()))
    assert hasty.wait_collected(deadline_s=DEADLINE_S)["stripes"] == before
