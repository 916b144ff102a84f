import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from blobd.collect import Collector, CollectSettings
from blobd.disks import DataDisk
from blobd.labels import read_label
from blobd.record import identity_key
from blobd.wire import ShardCount, SweepPage
from osscore.errors import DiskFailing, DiskRefused, StaleOrder
from osscore.model import ObjectAttributes, Profile, ShardIdentity, Slot, StripeDraft
from osscore.names import StripeId, stripe_id
from ossd.disk import SystemDisk
from raftmeta.client import QueryHead
from raftmeta.commands import (
    Collect,
    Collected,
    CopyBody,
    CreateBucket,
    DeleteVersion,
    DiskReport,
    Done,
    NodeRegistered,
    ObjectDeleted,
    ObjectPut,
    PutObject,
    RegisterNode,
    StripesBody,
)
from raftmeta.queries import CatalogCounted, CountCatalog, Unwanted
from tests.blobd.parts import CODING, Node, identity, node, put, run, until
from tests.fakes.meta import CLUSTER_ID

GRACE_S = 3600.0
GRACE_MS = int(GRACE_S * 1000)
SETTINGS = CollectSettings(grace_s=GRACE_S, compact_bytes_per_s=10**9)


def collector(found: Node, disk: DataDisk | None = None) -> Collector:
    return Collector(disk or found.first, meta=found.meta, clock=found.clock, settings=SETTINGS)


async def put_object(found: Node, key: str, stripe: StripeId) -> ObjectPut:
    """Name a stripe with one shard on this daemon's disk and two on other nodes."""
    await found.meta.propose(CreateBucket(bucket="bucket"), Done)
    await put(found.first, ShardIdentity(stripe, 0, 0))
    disks = [found.first.number] + [await elsewhere(found, number) for number in (2, 3)]
    draft = StripeDraft(
        stripe=stripe,
        profile=Profile(2, 1),
        domain=b"",
        digest=stripe + stripe,
        plain_bytes=8,
        stored_bytes=8,
        stored_crc=1,
        frames=(),
        coding=CODING,
        shard_bytes=4,
        shard_crcs=(1, 2, 3),
        slots=tuple(Slot(index, 0, disk) for index, disk in enumerate(disks)),
    )
    command = PutObject(
        bucket="bucket",
        key=key,
        attributes=ObjectAttributes(size_bytes=8, sha256=bytes(32)),
        body=StripesBody(stripes=(draft,)),
    )
    return await found.meta.propose(command, ObjectPut)


async def elsewhere(found: Node, number: int) -> int:
    """The disk of another node, which only the catalog knows of."""
    command = RegisterNode(
        node=f"blob-{number}",
        url=f"http://blob-{number}:9201",
        zone="",
        cluster_id=CLUSTER_ID,
        disks=(DiskReport(uuid=bytes([number]) * 16, epoch=1, capacity_bytes=10**12),),
    )
    return (await found.meta.propose(command, NodeRegistered)).granted[0].disk


async def delete_object_and_collect(found: Node, key: str, number: int) -> None:
    """Delete a version and let the catalog write its shards to the trash."""
    await found.meta.propose(DeleteVersion(bucket="bucket", key=key, number=number), ObjectDeleted)
    for _ in range(20):
        found.clock.advance(GRACE_S * 0.9)
        await found.meta.propose(Collect(grace_ms=GRACE_MS), Collected)
    counted = await found.meta.query(CountCatalog(), CatalogCounted)
    assert counted.trash == 3


async def one_object_in_trash(found: Node) -> None:
    """This daemon's disk holds one shard, and the catalog wants it deleted."""
    stripe = stripe_id(found.clock.now_ms(), b"0123456789")
    version = await put_object(found, "key", stripe)
    await delete_object_and_collect(found, "key", version.number)


def held(disk: DataDisk) -> Sequence[ShardIdentity]:
    return [row[0] for row in disk.store.inventory(b"", 100)]


def test_trash_is_deleted_from_the_disk_and_confirmed(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            await one_object_in_trash(found)
            assert await collector(found).empty_trash() == 1
            assert held(found.first) == []
            counted = await found.meta.query(CountCatalog(), CatalogCounted)
            assert counted.trash == 2  # what the other nodes still have to delete

    run(story)


def test_a_delete_order_older_than_one_seen_deletes_nothing(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            await one_object_in_trash(found)
            await found.first.obey(2)
            await found.first.keep_order((2, 10))
            for stale in ((1, 10_000), (2, 9)):
                found.rpc.order = stale
                with pytest.raises(StaleOrder):
                    await collector(found).empty_trash()
            assert len(held(found.first)) == 1
            found.rpc.order = (2, 10)
            assert await collector(found).empty_trash() == 1

    run(story)


def test_the_order_is_on_the_disk_before_the_first_shard_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async def story() -> None:
        async with node(tmp_path) as found:
            await one_object_in_trash(found)
            seen: list[tuple[int, int]] = []
            delete = found.first.store.delete

            async def watched(identities: Sequence[ShardIdentity]) -> int:
                label = read_label(SystemDisk(), found.first.folder)
                assert label is not None
                seen.append(label.order)
                return await delete(identities)

            monkeypatch.setattr(found.first.store, "delete", watched)
            found.rpc.order = (1, 777)
            await collector(found).empty_trash()
            assert seen == [(1, 777)]

    run(story)


def test_a_refused_disk_deletes_nothing(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            await one_object_in_trash(found)
            gatherer = collector(found)
            number = found.first.number
            found.first.refuse("rolled back")
            found.first.number = number  # even if somebody asked on its behalf
            with pytest.raises(DiskRefused):
                await gatherer.empty_trash()
            assert len(held(found.first)) == 1

    run(story)


def test_the_sweep_deletes_only_what_nobody_can_name_any_more(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            named = stripe_id(found.clock.now_ms(), b"named-----")
            await put_object(found, "key", named)
            orphan = identity(1, birth_ms=found.clock.now_ms())
            await put(found.first, orphan)
            found.clock.advance(GRACE_S * 2)
            young = identity(2, birth_ms=found.clock.now_ms())
            await put(found.first, young)
            await found.meta.propose(Collect(grace_ms=GRACE_MS), Collected)  # time passes
            assert await collector(found).sweep() == 1
            assert set(held(found.first)) == {ShardIdentity(named, 0, 0), young}

    run(story)


def test_the_sweep_leaves_alone_what_is_still_within_its_grace(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            fresh = identity(1, birth_ms=found.clock.now_ms())
            await put(found.first, fresh)
            found.clock.advance(GRACE_S / 2)
            await found.meta.propose(Collect(grace_ms=GRACE_MS), Collected)
            assert await collector(found).sweep() == 0
            assert held(found.first) == [fresh]

    run(story)


def test_an_answer_makes_the_sweep_delete_nothing_it_did_not_ask_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async def story() -> None:
        async with node(tmp_path) as found:
            orphan = identity(1, birth_ms=found.clock.now_ms())
            await put(found.first, orphan)
            found.clock.advance(GRACE_S * 2)
            young = identity(2, birth_ms=found.clock.now_ms())
            await put(found.first, young)
            await found.meta.propose(Collect(grace_ms=GRACE_MS), Collected)
            ask = found.meta.query_with_head

            async def too_much(query: object, kind: type[Unwanted]) -> tuple[QueryHead, Unwanted]:
                head, answer = await ask(query, kind)  # type: ignore[arg-type]
                return head, Unwanted(identities=(*answer.identities, young))

            monkeypatch.setattr(found.meta, "query_with_head", too_much)
            assert await collector(found).sweep() == 1
            assert held(found.first) == [young]

    run(story)


def test_trash_is_confirmed_only_once_it_is_durably_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Confirmed first, a failing disk would keep its shards for ever."""

    async def story() -> None:
        async with node(tmp_path) as found:
            await one_object_in_trash(found)

            async def fails(_: Sequence[ShardIdentity]) -> int:
                raise DiskFailing()

            with monkeypatch.context() as broken:
                broken.setattr(found.first.store, "delete", fails)
                with pytest.raises(DiskFailing):
                    await collector(found).empty_trash()
            assert await collector(found).empty_trash() == 1
            assert held(found.first) == []

    run(story)


def test_the_sweep_obeys_no_stale_order_either(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            await put(found.first, identity(1))
            await found.meta.propose(Collect(grace_ms=GRACE_MS), Collected)
            await found.first.keep_order((2, 1))
            found.rpc.order = (1, 999)
            with pytest.raises(StaleOrder):
                await collector(found).sweep()
            assert held(found.first) == [identity(1)]

    run(story)


def test_the_sweep_walks_the_whole_inventory_page_by_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("blobd.collect.SWEEP_PAGE", 2)

    async def story() -> None:
        async with node(tmp_path) as found:
            for number in range(7):
                await put(found.first, identity(number))
            await found.meta.propose(Collect(grace_ms=GRACE_MS), Collected)
            gatherer = collector(found)
            assert await gatherer.sweep(pages=2) == 4
            assert await gatherer.sweep(pages=2) == 3
            assert held(found.first) == []

    run(story)


def test_a_deleted_shard_never_returns(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            await put(found.first, identity(1))
            await found.meta.propose(Collect(grace_ms=GRACE_MS), Collected)
            assert await collector(found).sweep() == 1
        async with node(tmp_path, rpc=found.rpc, clock=found.clock) as again:
            assert again.first.store.head(identity(1)) is None

    run(story)


def test_space_of_deleted_shards_is_given_back(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            for number in range(24):
                await put(found.first, identity(number), bytes(100_000))
            used_bytes = found.first.store.stats().used_bytes
            await found.meta.propose(Collect(grace_ms=GRACE_MS), Collected)
            gatherer = collector(found)
            assert await gatherer.sweep() == 24
            life = asyncio.create_task(gatherer.compact())
            await until(life.done, clock=found.clock)
            assert found.first.store.stats().used_bytes < used_bytes / 4
            assert gatherer.compacted_bytes > 0

    run(story)


def test_rounds_go_on_after_the_metadata_was_away(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            await put(found.first, identity(1))
            await found.meta.propose(Collect(grace_ms=GRACE_MS), Collected)
            found.rpc.is_reachable = False
            life = asyncio.create_task(collector(found).run())
            await until(lambda: found.clock.sleeper_count > 0)
            found.rpc.is_reachable = True
            await until(lambda: not held(found.first), clock=found.clock)
            life.cancel()

    run(story)


def test_a_short_grace_shortens_the_paces():
    quick = CollectSettings(grace_s=3, compact_bytes_per_s=1)
    assert quick.sweep_interval_s == pytest.approx(0.3) == quick.trash_interval_s
    usual = CollectSettings(grace_s=3600, compact_bytes_per_s=1)
    assert (usual.sweep_interval_s, usual.trash_interval_s) == (60.0, 5.0)
    assert CollectSettings(grace_s=0, compact_bytes_per_s=1).sweep_interval_s == 0.2


async def grown_old(found: Node) -> None:
    """Let every shard so far be past its grace, by the catalog's time."""
    found.clock.advance(GRACE_S * 1.1)
    await found.meta.propose(Collect(grace_ms=GRACE_MS), Collected)


def test_a_page_tells_what_it_kept_and_why(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            stripe = stripe_id(found.clock.now_ms(), b"0123456789")
            await put_object(found, "key", stripe)
            copy = CopyBody(bucket="bucket", key="key", number=1)
            attributes = ObjectAttributes(size_bytes=8, sha256=bytes(32))
            again = PutObject(bucket="bucket", key="copy", attributes=attributes, body=copy)
            await found.meta.propose(again, ObjectPut)
            await put(found.first, identity(1), b"orphan")
            await grown_old(found)
            young = identity(2, birth_ms=found.clock.now_ms())
            await put(found.first, young, b"young!!")
            said = await collector(found).sweep_page(b"", is_dry_run=True, tells_shared=True)
            assert said == SweepPage(
                examined=ShardCount(3, 17),
                young=ShardCount(1, 7),
                kept=ShardCount(1, 4),
                shared=ShardCount(1, 4),
                removed=ShardCount(1, 6),
            )
            assert len(held(found.first)) == 3
            assert await collector(found).sweep_page(b"", tells_shared=True) == said
            assert set(held(found.first)) == {ShardIdentity(stripe, 0, 0), young}

            await found.meta.propose(
                DeleteVersion(bucket="bucket", key="key", number=1), ObjectDeleted
            )
            left = await collector(found).sweep_page(b"", tells_shared=True)
            assert (left.kept, left.shared, left.removed) == (
                ShardCount(1, 4),
                ShardCount(),
                ShardCount(),
            )
            assert ShardIdentity(stripe, 0, 0) in held(found.first)

    run(story)


def test_pages_go_on_behind_the_last_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("blobd.collect.SWEEP_PAGE", 2)

    async def story() -> None:
        async with node(tmp_path) as found:
            for number in range(5):
                await put(found.first, identity(number))
            await grown_old(found)
            after, removed, pages = b"", 0, 0
            while True:
                page = await collector(found).sweep_page(after)
                removed += page.removed.shards
                pages += 1
                if not page.next:
                    break
                after = bytes.fromhex(page.next)
                assert len(after) == len(identity_key(identity(0)))
            assert (removed, pages) == (5, 3) and held(found.first) == []

    run(story)
