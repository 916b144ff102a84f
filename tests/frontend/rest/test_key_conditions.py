"""Small writes over HTTP ask nobody about their key: the catalog judges it with the command."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from frontend.permits import ATTEMPTS_MAX
from frontend.rest.objects import UNASKED_BYTES_MAX
from ossd.clock import system_random
from ossd.signing import seal
from raftmeta.access import DELETE, DOWNLOAD, INFO, UPLOAD
from raftmeta.commands import Command, Done
from raftmeta.credentials import (
    AccessKeyFound,
    ChangeAccessKey,
    PutAccessKey,
    RevokeAccessKey,
    RotateAccessKey,
)
from raftmeta.queries import BucketsListed, ListBuckets
from raftmeta.wire import PROPOSE, QUERY, ProposeRequest, QueryReply
from tests.frontend.harness import BUCKET, CATALOG_KEY, random_bytes, url
from tests.frontend.rest.serving import Answer, Api, run

WRITER = ("writer", "s")
SMALL, SHARDED, LARGE = b"small", random_bytes(100_000), random_bytes(UNASKED_BYTES_MAX + 1)


class Peeking:
    """What a world's metanodes are asked from now on."""

    def __init__(self, api: Api) -> None:
        self.paths: list[str] = []
        self.proposed: list[str] = []
        self.overtaking: list[tuple[Command, ...]] = []
        self.bend: Callable[[Any], Any] = lambda answer: answer
        self._rpc = api.world.meta_rpc
        self._answer = self._rpc.answer
        self._rpc.answer = self.answer  # type: ignore[method-assign]

    def answer(self, path: str, body: bytes) -> msgspec.Struct:
        """See CatalogRpc; before each proposal those that overtake it are applied."""
        self.paths.append(path)
        if path == PROPOSE:
            request = msgspec.msgpack.decode(body, type=ProposeRequest)
            self.proposed += [type(entry.command).__name__ for entry in request.entries]
            if self.overtaking:
                assert set(self._rpc.do(*self.overtaking.pop(0))) == {Done()}
        return self.bend(self._answer(path, body))  # type: ignore[no-any-return]

    def stop(self) -> None:
        """Let them be asked as before."""
        self._rpc.answer = self._answer  # type: ignore[method-assign]


def key(secret: bytes = b"s", scopes: tuple[str, ...] = (UPLOAD, DELETE, INFO)) -> PutAccessKey:
    sealed = seal(CATALOG_KEY, secret, system_random)
    return PutAccessKey(access_key="writer", secret_sealed=sealed, scopes=scopes)


def rotation(overlap_ms: int = 0) -> RotateAccessKey:
    sealed = seal(CATALOG_KEY, b"other", system_random)
    return RotateAccessKey(access_key="writer", secret_sealed=sealed, overlap_ms=overlap_ms)


def change(**what: Any) -> ChangeAccessKey:
    return ChangeAccessKey(access_key="writer", **what)


async def put(api: Api, name: str = "k", body: Any = SMALL, **more: Any) -> Answer:
    return await api("PUT", f"/objects/{name}", auth=WRITER, data=body, **more)


async def delete(api: Api, name: str = "k") -> Answer:
    return await api("DELETE", f"/objects/{name}", auth=WRITER)


async def learn(api: Api, made: PutAccessKey | None = None) -> None:
    """Have this frontend remember the writer's key as it is, or as it is made."""
    if made is not None:
        assert api.world.meta_rpc.do(made) == [Done()]
    assert (await api("HEAD", "/objects/k", auth=WRITER)).status in (200, 403, 404)


async def state(api: Api) -> object:
    """All that a write could change."""
    versions = (await api("GET", "/buckets/objects/versions")).json
    buckets = (await api.world.meta.query(ListBuckets(), BucketsListed)).buckets
    audit = (await api("GET", "/v1/audit?action=bucket")).json["entries"]
    return versions, buckets, audit


async def chunked() -> AsyncIterator[bytes]:
    yield b"whose length is not declared, so that it asks before it begins"


REVOKE = RevokeAccessKey(access_key="writer")
ENDS: dict[str, tuple[Command, int]] = {
    "revoked": (REVOKE, 401),
    "disabled": (change(disabled=True), 401),
    "expired": (change(expires_at_ms=5), 401),
    "rotated": (rotation(), 401),
    "narrowed": (change(scopes=(DOWNLOAD,)), 403),
    "limited": (change(buckets=("other",)), 403),
}
WRITES: dict[str, Callable[[Api, str], Awaitable[Answer]]] = {
    "a-small-body": put,
    "a-body-in-shards": lambda api, name: put(api, name, SHARDED),
    "a-large-body": lambda api, name: put(api, name, LARGE),
    "a-version-removed": lambda api, name: delete(api, name + "?version=1"),
    "an-object-hidden": delete,
    "an-object-revealed": lambda api, name: api("POST", f"/objects/{name}?undelete=1", auth=WRITER),
}
"""By the name of the object that each is done to."""


@pytest.mark.parametrize("is_under_way", [False, True], ids=["before it", "under way"])
@pytest.mark.parametrize("end", ENDS)
def test_once_a_key_ends_nothing_is_written_by_it(
    tmp_path: Path, end: str, is_under_way: bool
) -> None:
    ending, status = ENDS[end]

    async def story(api: Api) -> None:
        await make_objects(api)
        for name, write in WRITES.items():
            await learn(api, key())
            before = await state(api)
            peeking = Peeking(api)
            if is_under_way:
                peeking.overtaking = [(ending,)]
            else:
                assert api.world.meta_rpc.do(ending) == [Done()]
            refused = await write(api, name)
            assert peeking.overtaking == []
            peeking.stop()
            assert refused.status == status, (name, refused.body)
            assert await state(api) == before, name
            assert said(refused) == said(await put(api, body=chunked())), name

    run(tmp_path, story)


async def make_objects(api: Api) -> None:
    """One for each write, hidden, so that there is something to reveal."""
    for name in WRITES:
        await api("PUT", f"/objects/{name}", data=b"first")
        await api("DELETE", f"/objects/{name}")


def said(answer: Answer) -> list[str]:
    """Of what was refused, whichever scope it would have taken."""
    error = answer.json["error"]
    message = error["message"].replace("permit delete", "permit upload")
    return [error["code"], message, answer.headers.get("WWW-Authenticate", "")]


@pytest.mark.parametrize(
    "changes",
    [
        (key(),),
        (REVOKE, key()),
        (change(note="another"),),
        (change(prefixes=("a",)),),
        (change(expires_at_ms=1 << 45),),
        (rotation(overlap_ms=60_000),),
    ],
    ids=["replaced", "made again", "noted", "limited", "expires later", "rotated"],
)
@pytest.mark.parametrize("is_under_way", [False, True], ids=["before it", "under way"])
def test_a_key_that_may_still_is_refused_nothing(
    tmp_path: Path, changes: tuple[Command, ...], is_under_way: bool
) -> None:
    async def story(api: Api) -> None:
        await make_objects(api)
        for name, write in WRITES.items():
            await learn(api, key())
            before = await state(api)
            peeking = Peeking(api)
            if is_under_way:
                peeking.overtaking = [changes]
            else:
                api.world.meta_rpc.do(*changes)
            answer = await write(api, name)
            assert answer.status in (200, 204), answer.body
            assert peeking.overtaking == []
            peeking.stop()
            assert await state(api) != before

    run(tmp_path, story)


def test_what_a_key_lacked_when_it_was_remembered_is_asked_for(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        await api("PUT", "/objects/k", data=b"first")
        await learn(api, key(scopes=(INFO,)))
        assert (await put(api)).status == 403
        api.world.meta_rpc.do(change(scopes=(UPLOAD, DELETE)))
        assert (await put(api)).status == 200
        assert (await delete(api)).status == 204
        api.world.meta_rpc.do(rotation())
        assert (await api("DELETE", "/objects/k", auth=("writer", "other"))).status == 204

    run(tmp_path, story)


def test_a_small_write_and_its_check_are_one_request_to_the_catalog(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        await learn(api, key())
        await put(api, "warm", SHARDED)  # the session is open, the bucket's profile known
        writes = [put(api), put(api, "sharded", SHARDED), delete(api)]
        writes.append(delete(api, "k?version=1"))
        peeking = Peeking(api)
        for write in writes:
            await api.world.store.cluster.refresh()  # it is not due meanwhile
            peeking.paths.clear()
            assert (await write).status in (200, 204)
            assert peeking.paths == [PROPOSE]

    run(tmp_path, story)


@pytest.mark.parametrize("body", [LARGE, None], ids=["large", "of unknown length"])
def test_a_large_body_is_not_read_before_its_key_was_asked_about(
    tmp_path: Path, body: bytes | None
) -> None:
    async def story(api: Api) -> None:
        await learn(api, key())
        peeking = Peeking(api)
        assert (await put(api, body=body or chunked())).status == 200
        assert peeking.paths[0] == QUERY
        api.world.meta_rpc.do(REVOKE)
        puts = api.world.blobs.put_count
        peeking.proposed.clear()
        assert (await put(api, body=body or chunked())).status == 401
        assert (api.world.blobs.put_count, peeking.proposed) == (puts, [])

    run(tmp_path, story)


WRONG: dict[str, Callable[[Api], Awaitable[Answer]]] = {
    "another digest": lambda api: put(api, headers={"Digest": f"SHA-256={'A' * 43}="}),
    "no digest": lambda api: put(api, headers={"Digest": "SHA-256=nonsense"}),
    "another digest of shards": lambda api: put(
        api, body=SHARDED, headers={"Digest": f"SHA-256={'A' * 43}="}
    ),
    "condition": lambda api: put(api, headers={"If-Match": '"none"'}),
    "no bucket": lambda api: api("PUT", "/buckets/none/objects/k", auth=WRITER, data=SHARDED),
    "no object": lambda api: delete(api, "none"),
    "no version": lambda api: delete(api, "k?version=77"),
    "disks": lambda api: put(api, "disks", SHARDED),
}


def test_who_may_not_is_told_so_whatever_else_is_wrong(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        await api("PUT", "/objects/k", data=b"first")
        api.world.blobs.refusing.update(url(node) for node in api.world.nodes)
        for name, request in WRONG.items():
            await learn(api, key())
            assert (await request(api)).status in (400, 404, 412, 422, 503), name
            api.world.meta_rpc.do(REVOKE)
            assert (await request(api)).status == 401, name

    run(tmp_path, story)


def test_a_revoked_key_makes_no_bucket(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        for body in (SMALL, SHARDED):
            await learn(api, key())
            api.world.meta_rpc.do(REVOKE)
            assert (await put(api, body=body)).status == 401
        buckets = (await api.world.meta.query(ListBuckets(), BucketsListed)).buckets
        assert [each.name for each in buckets] == [BUCKET]

    run(tmp_path, story)


def test_a_key_that_is_changed_again_and_again_is_no_refusal(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        await learn(api, key())
        await put(api)
        peeking = Peeking(api)
        peeking.overtaking = [(change(note=str(n)),) for n in range(ATTEMPTS_MAX - 1)]
        assert (await put(api)).json["version"] == 2
        peeking.overtaking = [(change(note=str(n)),) for n in range(ATTEMPTS_MAX)]
        assert (await put(api)).status == 503
        assert (await put(api)).json["version"] == 3

    run(tmp_path, story)


def test_older_metanodes_are_asked_first_and_sent_no_condition(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        peeking = Peeking(api)
        peeking.bend = as_an_older_one
        await learn(api, key())
        await put(api)
        peeking.paths.clear()
        peeking.proposed.clear()
        assert (await put(api)).status == 200
        assert (await delete(api)).status == 204
        assert peeking.paths == [QUERY, PROPOSE] * 2
        assert peeking.proposed == ["PutObject", "DeleteObject"]
        api.world.meta_rpc.do(REVOKE)
        assert (await put(api)).status == 401

    run(tmp_path, story)


def as_an_older_one(answer: Any) -> Any:
    if not isinstance(answer, QueryReply):
        return answer
    plain = tuple(
        msgspec.structs.replace(each, changed_at_ms=0) if isinstance(each, AccessKeyFound) else each
        for each in answer.answers
    )
    return msgspec.structs.replace(answer, answers=plain)
