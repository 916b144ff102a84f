"""When a shard was last reread: told by its volume's rereading, never for one that is bad."""

import asyncio
from pathlib import Path

import pytest

from blobd.wire import VERIFIED_ASKED_MAX
from osscore.errors import InvalidArgument, NoSuchNode, NotReady
from osscore.model import ShardIdentity
from tests.blobd.parts import identity, node, put, run, until
from tests.blobd.served import service
from tests.blobd.test_scrub import flip_bit_of, scrub_whole_pass, scrubber, stop


def test_a_shard_is_verified_by_the_pass_that_rereads_it(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            held, absent = identity(1), identity(9)
            await put(found.first, held, b"x" * 5000)
            worker = scrubber(found)
            assert worker.verified_ms_ago([held]) == [-1]
            found.clock.advance(10)
            await scrub_whole_pass(found, worker)
            began_ms = worker.state.last_began_at_ms
            found.clock.advance(60)
            ago_ms, nothing = worker.verified_ms_ago([held, absent])
            assert (ago_ms, nothing) == (found.clock.now_ms() - began_ms, -1)
            assert ago_ms >= 60_000
        async with node(tmp_path, rpc=found.rpc, clock=found.clock) as again:  # kept over restarts
            later = scrubber(again)
            life = asyncio.create_task(later.run())
            await until(lambda: later.told() is not None, clock=again.clock)
            assert later.verified_ms_ago([held])[0] >= 60_000
            await stop(life)

    run(story)


def test_one_that_is_bad_or_written_since_is_not_verified(tmp_path: Path):
    async def story() -> None:
        async with node(tmp_path) as found:
            await put(found.first, identity(1), b"x" * 5000)
            await put(found.first, identity(2), b"y" * 5000)
            flip_bit_of(found.first, b"y" * 5000)
            worker = scrubber(found)
            await scrub_whole_pass(found, worker)
            found.clock.advance(60)
            young = identity(3, birth_ms=found.clock.now_ms())
            await put(found.first, young, b"z" * 5000)  # into the volume that was reread
            ago_ms = worker.verified_ms_ago([identity(1), identity(2), young])
            assert ago_ms[0] >= 60_000 and ago_ms[1:] == [-1, -1]

    run(story)


def test_what_a_pass_has_behind_it_is_verified_before_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("blobd.scrub.PAGE", 2)

    async def story() -> None:
        async with node(tmp_path) as found:
            shards = [identity(number) for number in range(6)]
            for shard in shards:
                await put(found.first, shard, bytes(1000))
            worker = scrubber(found)
            life = asyncio.create_task(worker.run())
            await until(lambda: worker.state.offset > 0, clock=found.clock)
            known = [ago_ms >= 0 for ago_ms in worker.verified_ms_ago(shards)]
            await stop(life)
            assert known[0] and not known[-1] and sorted(known, reverse=True) == known

    run(story)


def test_it_is_asked_over_the_wire(tmp_path: Path):
    async def story() -> None:
        async with service(tmp_path) as it:
            asked = [identity(1), identity(2)]

            async def ask(uuid: bytes, shards: list[ShardIdentity]) -> tuple[int, ...]:
                return await it.client.last_verified(it.url, uuid, shards, deadline_s=10)

            with pytest.raises(NotReady):
                await ask(it.disk.uuid, asked)
            worker = scrubber(it.node)
            it.node.upkeep.add_scrubber(it.disk, worker)
            await put(it.disk, identity(1), bytes(1000))
            assert await ask(it.disk.uuid, asked) == (-1, -1)
            await scrub_whole_pass(it.node, worker)
            first, second = await ask(it.disk.uuid, asked)
            assert first >= 0 and second == -1
            with pytest.raises(NoSuchNode):
                await ask(bytes(16), asked)
            for wrong in ([], asked[:1] * (VERIFIED_ASKED_MAX + 1)):
                with pytest.raises(InvalidArgument):
                    await ask(it.disk.uuid, wrong)

    run(story)
