"""Hints and sweeps over the wire."""

from pathlib import Path

import msgspec
import pytest

from blobd.wire import RECHECK_ROWS_MAX, Recheck, ShardCount
from osscore.errors import InvalidArgument, MalformedBody, NoSuchNode
from osscore.model import SlotState
from ossd.rpc import check
from tests.blobd.parts import identity, run
from tests.blobd.served import BODY, service
from tests.blobd.test_recheck import name_stripe, state_of, store_shard


def test_a_hint_heals_what_the_catalog_believed(tmp_path: Path):
    async def story() -> None:
        async with service(tmp_path) as it:
            shard = await name_stripe(it.node, SlotState.MISSING)
            await store_shard(it.disk, shard)
            answer = await it.client.recheck(it.url, it.disk.uuid, [1, 5], deadline_s=10)
            assert [(s.row, s.identity, s.found) for s in answer.shards] == [(1, shard, "good")]
            assert await state_of(it.node) == SlotState.GOOD

    run(story)


def test_bad_hints_are_refused(tmp_path: Path):
    async def story() -> None:
        async with service(tmp_path) as it:
            for rows in ([], [0], [-1], [1] * (RECHECK_ROWS_MAX + 1)):
                with pytest.raises(InvalidArgument):
                    await it.client.recheck(it.url, it.disk.uuid, rows, deadline_s=10)
            with pytest.raises(NoSuchNode):
                await it.client.recheck(it.url, bytes(16), [1], deadline_s=10)
            path = f"/v1/disks/{it.disk.uuid.hex()}/recheck"
            for body in (b"", b"x", msgspec.msgpack.encode({"rows": ["1"]})):
                with pytest.raises(MalformedBody):
                    check(await it.raw("POST", path, body))
            good = msgspec.msgpack.encode(Recheck(rows=(1,)))
            assert (await it.raw("POST", path, good)).status == 200
            assert it.budget.used_bytes == 0

    run(story)


def test_a_sweep_takes_its_page_and_tells_what_it_did(tmp_path: Path):
    async def story() -> None:
        async with service(tmp_path) as it:
            await it.put(identity(1), BODY)
            it.node.clock.advance(2 * 3600)
            await it.node.membership.register()  # whose answer carries the catalog's time
            count = ShardCount(1, len(BODY))
            for is_dry_run in (True, False):
                page = await it.client.sweep(
                    it.url, it.disk.uuid, "", is_dry_run=is_dry_run, deadline_s=10
                )
                assert (page.examined, page.removed, page.next) == (count, count, "")
                assert bool(it.disk.store.inventory(b"", 10)) == is_dry_run
            for cursor in ("zz", "&dry_run=0", "\r\nHost: other", "é"):
                with pytest.raises(InvalidArgument):
                    await it.client.sweep(
                        it.url, it.disk.uuid, cursor, is_dry_run=True, deadline_s=10
                    )

    run(story)
