"""Whatever happens to up to m shards of each stripe, bytes are right; beyond, never wrong."""

import asyncio
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from osscore.errors import StripeUnreadable
from osscore.model import Profile
from tests.frontend.harness import World, random_bytes, run, url

SIZES = st.sampled_from([4097, 65_537, 262_145, 700_001, 4_194_304, 4_400_000, 9_000_000])
FAULTS = st.lists(st.sampled_from(["lose", "corrupt", "lying"]), max_size=8)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    size_bytes=SIZES,
    is_text=st.booleans(),
    profile=st.sampled_from([Profile(4, 2), Profile(2, 1), Profile(3, 2)]),
    faults=FAULTS,
    data=st.data(),
)
def test_bytes_are_right_or_missing_never_wrong(
    size_bytes: int, is_text: bool, profile: Profile, faults: list[str], data: st.DataObject
) -> None:
    body = (b"some line %d\n" % size_bytes) * (size_bytes // 12) if is_text else b""
    body = body[:size_bytes] or random_bytes(size_bytes)
    first = data.draw(st.integers(0, len(body) - 1))
    last = data.draw(st.integers(first, len(body) - 1))

    async def story(world: World) -> None:
        await world.put("k", body, profile=profile)
        worst: dict[bytes, set[int]] = {}
        for fault in faults:
            places = world.blobs.places()
            if not places:
                break
            place = places[data.draw(st.integers(0, len(places) - 1))]
            if fault == "lose":
                world.blobs.remove(place)
            else:
                getattr(world.blobs, fault).add(place)
            worst.setdefault(place[1].stripe, set()).add(place[1].index)
        is_readable = all(len(lost) <= profile.parity_count for lost in worst.values())
        for begin, end in ((0, len(body) - 1), (first, last)):
            lied = "lying" in faults and (begin, end) != (0, len(body) - 1)
            try:
                got = await world.get("k", begin, end)
            except StripeUnreadable:
                assert not is_readable
            else:
                # A window of a shard has only its own block CRCs, which a lying daemon
                # makes up; a whole one is compared with the catalog.
                assert got == body[begin : end + 1] or lied

    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), story)


def test_writes_and_reads_go_on_while_nodes_come_and_go(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        written: dict[str, bytes] = {}

        async def write(number: int) -> None:
            body = random_bytes(5_000 + 40_000 * number, number)
            await world.put(f"k{number}", body)
            written[f"k{number}"] = body

        for number in range(12):
            world.blobs.refusing = {url(world.nodes[number % 6])}
            await asyncio.gather(write(number), write(number + 100))
            for key, body in list(written.items())[-4:]:
                assert await world.get(key) == body
        world.blobs.refusing = set()
        for key, body in written.items():
            assert await world.get(key) == body

    run(tmp_path, story)
