import asyncio
from pathlib import Path

import msgspec
import pytest

from blobd.disks import DataDisk
from blobd.reading import ShardRead
from blobd.scrub import SUSPECTS_INTERVAL_S, Scrubber, ScrubSettings
from blobd.scrubstate import STATE_NAME, ScrubState, read_state
from blobd.shardstore import ShardStore
from blobd.temp.records import temp_id
from blobd.temp.shelf import Shelf
from osscore.digests import crc32c
from osscore.errors import CorruptShard, InvalidArgument
from osscore.model import ShardIdentity
from raftmeta.commands import MarkBad, MarkGood
from raftmeta.upkeep import DiskScrub
from raftmeta.wire import PROPOSE, ProposeRequest
from tests.blobd.parts import CODING, Node, identity, node, put, run, until

RATE = ScrubSettings(bytes_per_s=1_000_000, rest_s=100.0)


def scrubber(found: Node, settings: ScrubSettings = RATE) -> Scrubber:
    return Scrubber(
        found.first, disk=found.files, meta=found.meta, clock=found.clock, settings=settings
    )


def watch_reports(found: Node) -> list[tuple[str, ShardIdentity, int]]:
    """What the daemon tells the catalog of single shards, as it tells it."""
    reports: list[tuple[str, ShardIdentity, int]] = []
    answer = found.rpc.answer

    def listen(path: str, body: bytes) -> msgspec.Struct:
        if path == PROPOSE:
            for entry in msgspec.msgpack.decode(body, type=ProposeRequest).entries:
                if isinstance(entry.command, MarkBad | MarkGood):
                    name = type(entry.command).__name__
                    reports.append((name, entry.command.identity, entry.command.disk))
        return answer(path, body)

    found.rpc.answer = listen  # type: ignore[method-assign]
    return reports


def flip_bit_of(disk: DataDisk, body: bytes) -> None:
    """Damage the stored copy of `body` behind the store's back."""
    for path in (disk.folder / "volumes").glob("*.volume"):
        data = bytearray(path.read_bytes())
        at = data.find(body)
        if at >= 0:
            with path.open("r+b") as file:
                file.seek(at + len(body) // 2)
                file.write(bytes([data[at + len(body) // 2] ^ 0x10]))
            return
    raise AssertionError("the body is in no volume")


async def scrub_whole_pass(found: Node, worker: Scrubber) -> None:
    life = asyncio.create_task(worker.run())
    await until(lambda: worker.state.last_finished_at_ms > 0, clock=found.clock)
    await stop(life)


async def stop(life: asyncio.Task[None]) -> None:
    """End a worker as its daemon does."""
    life.cancel()
    await asyncio.gather(life, return_exceptions=True)


def test_a_flipped_bit_is_found_and_reported_and_the_rest_is_not(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            reports = watch_reports(found)
            for number in range(5):
                await put(found.first, identity(number), bytes([number + 1]) * 5000)
            flip_bit_of(found.first, bytes([3]) * 5000)
            worker = scrubber(found)
            await scrub_whole_pass(found, worker)
            assert set(reports) == {("MarkBad", identity(2), found.first.number)}
            assert worker.scrubbed_bytes == 4 * 5000
            assert worker.bad_count >= 1

    run(story)


def test_one_read_that_fails_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    read, failures = ShardStore.get, [CorruptShard()]

    async def get(store: ShardStore, identity: ShardIdentity) -> ShardRead:
        if failures:
            raise failures.pop()
        return await read(store, identity)

    async def story() -> None:
        async with node(tmp_path) as found:
            reports = watch_reports(found)
            await put(found.first, identity(1), b"x" * 5000)
            monkeypatch.setattr(ShardStore, "get", get)
            worker = scrubber(found)
            assert await worker.scrub_shard(identity(1)) == 5000
            assert (reports, worker.bad_count) == ([], 0)

    run(story)


def test_a_bad_shard_stays_where_it_is(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            await put(found.first, identity(1), b"x" * 5000)
            flip_bit_of(found.first, b"x" * 5000)
            await scrub_whole_pass(found, scrubber(found))
            assert [row[0] for row in found.first.store.inventory(b"", 10)] == [identity(1)]

    run(story)


def test_the_rate_is_bounded(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            for number in range(4):
                await put(found.first, identity(number), bytes(500_000))
            worker = scrubber(found)
            began_s = found.clock.monotonic_s()
            life = asyncio.create_task(worker.run())
            await until(lambda: worker.state.last_finished_at_ms > 0, clock=found.clock)
            life.cancel()
            assert found.clock.monotonic_s() - began_s >= 2.0  # 2 MB at 1 MB/s

    run(story)


def test_a_restart_goes_on_where_the_scrub_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("blobd.scrub.PAGE", 2)

    async def story() -> None:
        async with node(tmp_path) as found:
            for number in range(6):
                await put(found.first, identity(number), bytes(1000))
            first = scrubber(found)
            life = asyncio.create_task(first.run())
            await until(lambda: first.state.offset > 0, clock=found.clock)
            await stop(life)
            stopped_at = first.state
            assert 0 < first.scrubbed_bytes < 6000
        async with node(tmp_path, rpc=found.rpc, clock=found.clock) as again:
            second = scrubber(again)
            await scrub_whole_pass(again, second)
            assert second.state.last_began_at_ms == stopped_at.pass_began_at_ms
            assert first.scrubbed_bytes + second.scrubbed_bytes == 6000
            assert second.state.last_bytes == 6000

    run(story)


def test_a_crash_costs_what_was_reread_since_the_state_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("blobd.scrub.PAGE", 2)
    monkeypatch.setattr("blobd.scrub.KEEP_STATE_S", 0.0)
    # As kill -9 would; what a thread is writing has been written.
    monkeypatch.setattr(Scrubber, "_keep_at_end", lambda worker: worker._writing.acquire())

    async def story() -> None:
        async with node(tmp_path) as found:
            for number in range(6):
                await put(found.first, identity(number), bytes(1000))
            first = scrubber(found)
            life = asyncio.create_task(first.run())
            await until(
                lambda: read_state(found.files, found.first.folder).offset > 0, clock=found.clock
            )
            await stop(life)
            kept = read_state(found.files, found.first.folder)
            assert kept.pass_began_at_ms == first.state.pass_began_at_ms
            second = scrubber(found)
            await scrub_whole_pass(found, second)
            assert second.state.last_began_at_ms == kept.pass_began_at_ms
            assert second.scrubbed_bytes == 6000 - kept.pass_bytes

    run(story)


def test_a_rest_goes_on_over_a_restart(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            await put(found.first, identity(1), bytes(1000))
            await scrub_whole_pass(found, scrubber(found))
            second = scrubber(found)
            life = asyncio.create_task(second.run())
            for _ in range(20):
                found.clock.advance(1)
                await asyncio.sleep(0.002)
            assert second.scrubbed_bytes == 0
            found.clock.advance(RATE.rest_s)
            await until(lambda: second.scrubbed_bytes == 1000, clock=found.clock)
            await stop(life)

    run(story)


def test_an_unreadable_position_only_starts_the_pass_anew(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            await put(found.first, identity(1))
            for text in (b"{torn", b'{"after":"ab","pass_started_at_ms":5}'):  # the last: of old
                (found.first.folder / STATE_NAME).write_bytes(text)
                assert read_state(found.files, found.first.folder) == ScrubState()
                worker = scrubber(found)
                await scrub_whole_pass(found, worker)
                assert worker.scrubbed_bytes == 4

    run(story)


def test_what_a_reader_found_corrupt_is_reported_within_seconds(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            reports = watch_reports(found)
            await put(found.first, identity(1), b"x" * 5000)
            worker = scrubber(found)
            life = asyncio.create_task(worker.run())
            await until(lambda: worker.state.last_finished_at_ms > 0, clock=found.clock)
            flip_bit_of(found.first, b"x" * 5000)
            with pytest.raises(CorruptShard):
                await found.first.store.get(identity(1))
            began_s = found.clock.monotonic_s()
            await until(lambda: reports != [], clock=found.clock)
            assert found.clock.monotonic_s() - began_s < RATE.rest_s / 2
            life.cancel()

    run(story)


def test_a_shard_written_back_is_reported_good_once(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            reports = watch_reports(found)
            body = b"x" * 5000
            await put(found.first, identity(1), body)
            flip_bit_of(found.first, body)
            worker = scrubber(found)
            await worker.scrub_shard(identity(1))
            assert await found.first.store.put(identity(1), CODING, crc32c(body), body)
            await worker.scrub_suspects()
            await worker.scrub_suspects()
            assert [name for name, *_ in reports] == ["MarkBad", "MarkGood"]

    run(story)


def test_a_report_that_cannot_be_delivered_is_delivered_later(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            reports = watch_reports(found)
            await put(found.first, identity(1), b"x" * 5000)
            flip_bit_of(found.first, b"x" * 5000)
            found.rpc.is_reachable = False
            worker = scrubber(found)
            life = asyncio.create_task(worker.run())
            await until(lambda: worker.bad_count > 0, clock=found.clock)
            found.rpc.is_reachable = True
            await until(lambda: reports != [], clock=found.clock)
            life.cancel()

    run(story)


def test_a_shard_deleted_meanwhile_is_no_damage(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            reports = watch_reports(found)
            await scrubber(found).scrub_shard(identity(1))
            assert reports == []

    run(story)


def test_suspects_do_not_wait_for_a_page_of_large_shards(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path, volume_bytes=64 << 20) as found:
            reports = watch_reports(found)
            for number in range(12):
                await put(found.first, identity(number), bytes(1_000_000))
            await put(found.first, identity(20), b"x" * 5000)
            worker = scrubber(found)  # at 1 MB/s: the volume takes 12 s, in one page
            life = asyncio.create_task(worker.run())
            await until(lambda: worker.scrubbed_bytes > 0, clock=found.clock)
            flip_bit_of(found.first, b"x" * 5000)
            with pytest.raises(CorruptShard):
                await found.first.store.get(identity(20))
            began_s = found.clock.monotonic_s()
            await until(lambda: reports != [], clock=found.clock)
            assert found.clock.monotonic_s() - began_s < SUSPECTS_INTERVAL_S + 3
            assert worker.state.pass_began_at_ms  # the pass goes on
            await stop(life)

    run(story)


def where(worker: Scrubber) -> DiskScrub:
    told = worker.told()
    assert told is not None
    return told


async def fill(found: Node, count: int) -> None:
    """Volumes of 1 MiB with three shards each."""
    for number in range(count):
        await put(found.first, identity(number), bytes([number + 1]) * 400_000)


def test_each_volume_tells_since_when_all_of_it_was_reread(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            await fill(found, 9)
            worker = scrubber(found)
            found.upkeep.add_scrubber(found.first, worker)
            volumes = found.first.store.records.volumes()
            assert len(volumes) == 3
            assert worker.told() is None  # what was kept is not known yet
            life = asyncio.create_task(worker.run())
            await until(lambda: worker.told() is not None)
            told = where(worker)
            assert (told.volumes, told.unverified_volumes) == (3, 3)
            assert told.oldest_verified_ms_ago == -1
            await until(lambda: len(worker.state.verified_at_ms) == 1, clock=found.clock)
            told = where(worker)
            assert (told.unverified_volumes, told.last_finished_at_ms) == (2, 0)
            assert 1_200_000 < told.left_bytes < 2_500_000 and told.done_bytes >= 1_200_000
            assert 0 < told.bytes_per_s <= RATE.bytes_per_s
            await until(lambda: worker.state.last_finished_at_ms > 0, clock=found.clock)
            times = [each.verified_at_ms for each in found.upkeep.verified_of(found.first)]
            assert times == sorted(times) and times[0] == worker.state.last_began_at_ms
            told = where(worker)
            assert (told.unverified_volumes, told.left_bytes, told.last_bytes) == (0, 0, 3_600_000)
            assert told.oldest_verified_ms_ago >= 3600
            await fill(found, 10)  # a new volume
            assert where(worker).unverified_volumes == 1
            await found.membership.heartbeat()
            assert found.rpc.heartbeats[-1].disks[0].scrub == worker.told()
            await stop(life)

    run(story)


def test_a_pass_that_is_asked_for_rereads_everything(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            await fill(found, 4)
            worker = scrubber(found)
            found.upkeep.add_scrubber(found.first, worker)
            life = asyncio.create_task(worker.run())
            await until(lambda: worker.state.last_finished_at_ms > 0, clock=found.clock)
            for is_resting in (True, False):
                before = worker.scrubbed_bytes
                if not is_resting:
                    await found.upkeep.order_scrub(found.first.uuid, "now")
                    await until(lambda b=before: worker.scrubbed_bytes > b, clock=found.clock)  # type: ignore[misc]
                    before = worker.scrubbed_bytes
                asked_at_ms = await found.upkeep.order_scrub(found.first.uuid, "now")
                since_s = found.clock.monotonic_s()
                await until(
                    lambda at=asked_at_ms: worker.state.last_began_at_ms >= at,  # type: ignore[misc]
                    clock=found.clock,
                )
                assert found.clock.monotonic_s() - since_s < RATE.rest_s / 2
                # One shard that was being read when the pass was begun anew is not its own.
                assert worker.state.last_bytes == 1_600_000
                assert worker.scrubbed_bytes - before in (1_600_000, 2_000_000)
            await stop(life)

    run(story)


def test_paused_it_rereads_suspects_alone_and_stays_so_over_a_restart(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            reports = watch_reports(found)
            await put(found.first, identity(1), b"x" * 5000)
            worker = scrubber(found)
            found.upkeep.add_scrubber(found.first, worker)
            life = asyncio.create_task(worker.run())
            await until(lambda: worker.state.last_finished_at_ms > 0, clock=found.clock)
            await found.upkeep.order_scrub(found.first.uuid, "pause")
            await stop(life)
            worker = scrubber(found)
            found.upkeep.add_scrubber(found.first, worker)
            life = asyncio.create_task(worker.run())
            for _ in range(50):
                found.clock.advance(10)
                await asyncio.sleep(0.002)
            assert (worker.scrubbed_bytes, where(worker).is_paused) == (0, True)
            flip_bit_of(found.first, b"x" * 5000)
            with pytest.raises(CorruptShard):
                await found.first.store.get(identity(1))
            await until(lambda: reports != [], clock=found.clock)
            await found.upkeep.order_scrub(found.first.uuid, "resume")
            began_ms = worker.state.last_began_at_ms
            await until(lambda: worker.state.last_began_at_ms > began_ms, clock=found.clock)
            assert worker.state.last_bad == 0  # it was no news
            assert worker.bad_count == 1
            with pytest.raises(InvalidArgument):
                await found.upkeep.order_scrub(found.first.uuid, "faster")
            await stop(life)

    run(story)


def test_temps_are_reread_and_nobody_s_slot_is_blamed(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            reports = watch_reports(found)
            shelf, temp = Shelf(found.first), temp_id(bytes(10))
            for number in range(2):
                body = bytes([7 + number]) * 3000
                await shelf.put_piece(temp, number, body, crc32c(body))
            flip_bit_of(found.first, bytes([7]) * 3000)
            worker = scrubber(found)
            await scrub_whole_pass(found, worker)
            assert (worker.bad_temp_count, worker.bad_count, reports) == (1, 0, [])
            assert (worker.scrubbed_bytes, worker.state.last_bad) == (3000, 1)

    run(story)


def test_what_compaction_moves_before_it_is_reread_is_found_too(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            reports = watch_reports(found)
            await fill(found, 6)
            worker = scrubber(found)
            first = asyncio.create_task(worker.scrub_page())
            await until(lambda: worker.state.pass_began_at_ms > 0, clock=found.clock)
            last = worker.state.pass_last
            flip_bit_of(found.first, bytes([5]) * 400_000)
            await found.first.store.delete([identity(3), identity(5)])
            while await found.first.store.compact(bytes_max=1 << 20):
                pass
            place = found.first.store.records
            moved = [v.number for v in place.volumes() if v.number > last]
            assert moved, "the shard lies in a younger volume than the pass covers"
            await until(first.done, clock=found.clock)
            while worker.state.pass_began_at_ms:
                page = asyncio.create_task(worker.scrub_page())
                await until(page.done, clock=found.clock)
            await worker.scrub_suspects()
            assert ("MarkBad", identity(4), found.first.number) in reports
            assert worker.bad_count == 1

    run(story)
