"""A scan reads what the catalog keeps itself, too: every body, compared with its SHA-256."""

from pathlib import Path

import pytest

from frontend.flows import scan, scan_inline
from frontend.flows.scan import Scanned, ScanStep, scan_step
from osscore.errors import NoSuchBucket, Overloaded
from osscore.model import ObjectAttributes
from raftmeta.commands import InlineBody, ObjectPut, PutObject
from tests.frontend.harness import BUCKET, World, random_bytes, run


async def scan_all(world: World, **more: str) -> tuple[Scanned, int]:
    """Every step put together, and how many there were."""
    total, steps = Scanned(), 1
    step = await scan_step(world.store, ScanStep(**more))  # type: ignore[arg-type]
    total.add(step)
    while step.next_row or step.next_inline is not None:
        following = ScanStep(after_row=step.next_row, after_inline=step.next_inline, **more)  # type: ignore[arg-type]
        step = await scan_step(world.store, following)
        total.add(step)
        steps += 1
    return total, steps


def write(world: World, sql: str, *values: object) -> None:
    """What a rotten disk would do to the catalog."""
    world.catalog._writer.execute(sql, values)
    world.catalog._writer.commit()


def version_id(world: World, key: str) -> int:
    sql = "SELECT id FROM versions WHERE key = ? ORDER BY number LIMIT 1"
    return int(world.catalog._writer.execute(sql, (key,)).fetchone()[0])


def test_every_body_is_read_and_one_that_differs_is_named(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        bodies = {f"k{n}": random_bytes(n * 100, n) for n in range(8)}
        for key, body in bodies.items():
            await world.put(key, body)
        await world.put("k3", b"newer")  # older versions are read as well
        await world.put("large", random_bytes(300_000))
        sound, _ = await scan_all(world)
        assert (sound.inline.checked, sound.inline.unhashed, sound.stripes) == (9, 0, 1)
        assert sound.inline.size_bytes == sum(map(len, bodies.values())) + 5
        assert sound.inline.corrupt == [] and sound.findings == []

        flipped = bytes([bodies["k3"][0] ^ 1]) + bodies["k3"][1:]
        update = "UPDATE inline_bodies SET data = ? WHERE version = ?"
        write(world, update, flipped, version_id(world, "k3"))
        write(world, update, bodies["k4"][:-1], version_id(world, "k4"))
        write(world, "DELETE FROM inline_bodies WHERE version = ?", version_id(world, "k5"))
        found, _ = await scan_all(world)
        named = {(v.bucket, v.key, v.number) for v in found.inline.corrupt}
        assert named == {(BUCKET, f"k{n}", 1) for n in (3, 4, 5)}
        assert found.inline.checked == 9 and found.findings == []

        only, _ = await scan_all(world, bucket=BUCKET, prefix="k4")
        assert [v.key for v in only.inline.corrupt] == ["k4"] and only.inline.checked == 1
        with pytest.raises(NoSuchBucket):
            await scan_step(world.store, ScanStep(after_inline=0, bucket="absent"))

    run(tmp_path, story)


def test_where_no_sha256_is_known_the_size_is_compared(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for key, size_bytes in (("whole", 3), ("short", 4)):
            command = PutObject(
                bucket=BUCKET,
                key=key,
                attributes=ObjectAttributes(size_bytes=3, md5=bytes(16)),
                body=InlineBody(data=b"abc"),
            )
            await world.meta.propose(command, ObjectPut)
            update = "UPDATE inline_bodies SET data = ? WHERE version = ?"
            write(world, update, b"x" * size_bytes, version_id(world, key))
        found, _ = await scan_all(world)
        assert (found.inline.checked, found.inline.unhashed) == (0, 2)
        assert [version.key for version in found.inline.corrupt] == ["short"]

    run(tmp_path, story)


def test_steps_end_in_time_and_none_is_read_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_inline, "PAGE_MAX", 2)
    monkeypatch.setattr(scan, "STEP_S_MAX", -1.0)
    monkeypatch.setattr(scan, "STRIPES_MAX", 1)

    async def story(world: World) -> None:
        for n in range(7):
            await world.put(f"k{n}", b"body %d" % n)
        for n in range(3):
            await world.put(f"l{n}", random_bytes(300_000, n))
        total, steps = await scan_all(world)
        assert (total.inline.checked, total.stripes) == (7, 3)
        assert steps >= 5
        assert await scan_all(world, bucket=BUCKET, prefix="k6") != total

    run(tmp_path, story)


def test_bodies_wait_for_requests_as_stripes_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "WAIT_S", 0.0)
    monkeypatch.setattr(scan, "WAITS_MAX", 3)

    async def story(world: World) -> None:
        await world.put("k", b"small")
        budget = world.store.budget
        await budget.take(100 << 20)
        with pytest.raises(Overloaded):
            await scan_step(world.store, ScanStep(after_inline=0))
        budget.give(100 << 20)
        assert (await scan_step(world.store, ScanStep(after_inline=0))).inline.checked == 1
        assert budget.used_bytes == 0

        await world.put("l", random_bytes(300_000))
        look = scan._look

        async def look_and_fill(*arguments: object) -> object:
            await budget.take(100 << 20)
            return await look(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(scan, "_look", look_and_fill)
        step = await scan_step(world.store, ScanStep())
        assert (step.stripes, step.next_row, step.next_inline) == (1, 0, 0)
        budget.give(100 << 20)

    run(tmp_path, story)
