import asyncio
from pathlib import Path

import msgspec
import pytest

from blobd.disks import DataDisk
from blobd.scrub import PAGE, POSITION_NAME, Scrubber, ScrubSettings
from osscore.digests import crc32c
from osscore.errors import CorruptShard
from osscore.model import ShardIdentity
from raftmeta.commands import MarkBad, MarkGood
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
    await until(lambda: worker.position.last_finished_at_ms > 0, clock=found.clock)
    life.cancel()


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
            await until(lambda: worker.position.last_finished_at_ms > 0, clock=found.clock)
            life.cancel()
            assert found.clock.monotonic_s() - began_s >= 2.0  # 2 MB at 1 MB/s

    run(story)


def test_a_restart_goes_on_where_the_scrub_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("blobd.scrub.PAGE", 2)
    monkeypatch.setattr("blobd.scrub.KEEP_POSITION_S", 0.0)

    async def story() -> None:
        async with node(tmp_path) as found:
            for number in range(6):
                await put(found.first, identity(number), bytes(1000))
            first = scrubber(found)
            life = asyncio.create_task(first.run())
            await until(lambda: first.position.after != "", clock=found.clock)
            life.cancel()
            stopped_at = first.position
            assert 0 < first.scrubbed_bytes < 6000
        async with node(tmp_path, rpc=found.rpc, clock=found.clock) as again:
            second = scrubber(again)
            await scrub_whole_pass(again, second)
            assert second.position.last_started_at_ms == stopped_at.pass_started_at_ms
            assert second.scrubbed_bytes < 6000

    run(story)


def test_an_unreadable_position_only_starts_the_pass_anew(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            await put(found.first, identity(1))
            (found.first.folder / POSITION_NAME).write_bytes(b"{torn")
            await scrub_whole_pass(found, scrubber(found))

    run(story)


def test_what_a_reader_found_corrupt_is_reported_within_seconds(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            reports = watch_reports(found)
            await put(found.first, identity(1), b"x" * 5000)
            worker = scrubber(found)
            life = asyncio.create_task(worker.run())
            await until(lambda: worker.position.last_finished_at_ms > 0, clock=found.clock)
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


def test_pages_are_small_enough_to_notice_suspects_soon():
    assert PAGE * 64 * 1024 / 20_000_000 < 5
