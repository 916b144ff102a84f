"""What is taken of what daemons hold, and what is refused."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from blake3 import blake3

from osscore.errors import CorruptCatalog, InvalidArgument, PeerUnreachable
from ossd.disk import SystemDisk
from raftmeta.archive.chains import Chain, HeldPiece, best_chains, chain_behind, newest_seen
from raftmeta.archive.gathering import Found, Gathering, best_whole, find
from raftmeta.archive.pieces import ArchivedEntry, PieceHead, SnapshotName, pack_piece
from tests.raftmeta.archive.daemons import FOLDER, Daemons, uuid_of

ONE, TWO, THREE = URLS = ("http://blob-1", "http://blob-2", "http://blob-3")


def piece(first: int, last: int) -> bytes:
    return pack_piece([ArchivedEntry(n, 1, b"\x00%d" % n) for n in range(first, last + 1)])


async def keep(
    daemons: Daemons, url: str, snapshot: int, *ranges: tuple[int, int], generation: int = 1
) -> None:
    """A snapshot as of that entry, and runs of log."""
    data = b"catalog %d of %d" % (snapshot, generation)
    name = SnapshotName(generation, snapshot, blake3(data).hexdigest())
    await daemons.send_snapshot(url, uuid_of(url), name, 0, data)
    await daemons.finish_snapshot(url, uuid_of(url), name)
    for first, last in ranges:
        end = await daemons.append(url, uuid_of(url), generation, piece(first, last), begins=True)
        assert end == last


async def gathered(
    daemons: Daemons, tmp_path: Path, generation: int | None = None
) -> tuple[Found, Chain]:
    found = await find(daemons, URLS, generation)
    gathering = Gathering(daemons, found, work=tmp_path, disk=SystemDisk())
    await gathering.fetch_logs()
    chain, path = await best_whole(gathering, found)
    assert blake3(path.read_bytes()).hexdigest() == chain.snapshot.blake3
    return found, chain


def run(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), timeout=30))  # type: ignore[arg-type]


@pytest.fixture
def daemons() -> Daemons:
    return Daemons(URLS)


def test_the_furthest_chain_is_taken_whoever_holds_its_parts(
    daemons: Daemons, tmp_path: Path
) -> None:
    async def story() -> None:
        await keep(daemons, ONE, 5, (6, 9))
        await keep(daemons, TWO, 3, (4, 7))
        await keep(daemons, THREE, 2, (10, 12))
        found, chain = await gathered(daemons, tmp_path)
        assert (chain.snapshot.index, chain.end, found.newest_seen) == (5, 12, 12)
        assert not found.damage and not found.silent

    run(story)


def test_a_damaged_copy_is_told_and_another_taken(daemons: Daemons, tmp_path: Path) -> None:
    async def story() -> None:
        for url in URLS:
            await keep(daemons, url, 5, (6, 9))
        for url, kind in ((ONE, "snapshot"), (TWO, "log")):
            path = daemons.path(url, kind)
            daemons.disks[url].flip_bit(path, len(daemons.disks[url].content(path)) - 1)
        found, chain = await gathered(daemons, tmp_path)
        assert chain.end == 9 == found.newest_seen
        assert [ONE in words or TWO in words for words in found.damage] == [True, True]

    run(story)


def test_where_no_copy_of_a_snapshot_is_whole_an_older_one_leads_as_far(
    daemons: Daemons, tmp_path: Path
) -> None:
    async def story() -> None:
        await keep(daemons, ONE, 2, (3, 9))
        await keep(daemons, TWO, 5)
        daemons.disks[TWO].flip_bit(daemons.path(TWO, "snapshot"), 3)
        found, chain = await gathered(daemons, tmp_path)
        assert (chain.snapshot.index, chain.end) == (2, 9) and found.damage

    run(story)


def test_a_catalog_of_which_no_snapshot_is_whole_is_refused(
    daemons: Daemons, tmp_path: Path
) -> None:
    async def story() -> None:
        await keep(daemons, ONE, 2, (3, 9))
        daemons.disks[ONE].flip_bit(daemons.path(ONE, "snapshot"), 3)
        with pytest.raises(CorruptCatalog, match="No copy of any snapshot is whole"):
            await gathered(daemons, tmp_path)

    run(story)


def test_a_gap_is_seen(daemons: Daemons, tmp_path: Path) -> None:
    async def story() -> None:
        await keep(daemons, ONE, 5, (6, 9), (11, 14))
        found, chain = await gathered(daemons, tmp_path)
        assert (chain.end, found.newest_seen) == (9, 14)

    run(story)


def test_a_newer_snapshot_that_cannot_be_read_is_a_gap(daemons: Daemons, tmp_path: Path) -> None:
    async def story() -> None:
        await keep(daemons, ONE, 5, (6, 9))
        await keep(daemons, TWO, 20)
        daemons.disks[TWO].flip_bit(daemons.path(TWO, "snapshot"), 3)
        found, chain = await gathered(daemons, tmp_path)
        assert (chain.end, found.newest_seen) == (9, 20)

    run(story)


def test_the_newest_generation_is_taken_unless_another_is_named(
    daemons: Daemons, tmp_path: Path
) -> None:
    async def story() -> None:
        await keep(daemons, ONE, 500, (501, 900))
        await keep(daemons, TWO, 7, (8, 9), generation=2)
        found, chain = await gathered(daemons, tmp_path)
        assert (found.generation, chain.end, found.other_generations) == (2, 9, [1])
        older = tmp_path / "older"
        older.mkdir()
        found, chain = await gathered(daemons, older, generation=1)
        assert (found.generation, chain.end) == (1, 900)
        with pytest.raises(InvalidArgument):
            await find(daemons, URLS, 3)

    run(story)


def test_who_does_not_answer_is_told(daemons: Daemons, tmp_path: Path) -> None:
    async def story() -> None:
        await keep(daemons, ONE, 5, (6, 9))
        daemons.down = {TWO}
        found, _ = await gathered(daemons, tmp_path)
        assert list(found.silent) == [TWO]
        daemons.down = set(URLS)
        with pytest.raises(PeerUnreachable, match="No blob daemon answered"):
            await find(daemons, URLS, None)

    run(story)


def test_archives_of_different_clusters_are_not_mixed() -> None:
    async def story() -> None:
        mixed = Daemons(URLS)
        await keep(mixed, ONE, 5)
        mixed.cluster_id = b"d" * 16
        await keep(mixed, TWO, 5)
        with pytest.raises(InvalidArgument, match="different clusters"):
            await find(mixed, URLS, None)

    run(story)


def test_where_there_is_no_archive_that_is_said(daemons: Daemons) -> None:
    async def story() -> None:
        await daemons.append(ONE, uuid_of(ONE), 1, piece(1, 2), begins=True)
        with pytest.raises(InvalidArgument, match="snapshot"):
            await find(daemons, URLS, None)

    run(story)


def held(first: int, last: int, source: str = "a") -> HeldPiece:
    head = PieceHead(first, last - first + 1, 1, 1, 1)
    return HeldPiece(source, FOLDER / source, 0, head)


def snapshot(index: int) -> SnapshotName:
    return SnapshotName(1, index, "00" * 32)


def test_a_chain_overlaps_and_never_skips() -> None:
    pieces = [held(6, 8), held(4, 7, "b"), held(8, 10, "b"), held(12, 13)]
    chain = chain_behind(snapshot(5), pieces)
    assert [[p.head.last for p in link] for link in chain.links] == [[8, 7], [10]]
    assert chain.end == 10 and newest_seen([snapshot(5)], pieces) == 13
    assert chain_behind(snapshot(4), [held(6, 8)]).end == 4
    assert chain_behind(snapshot(11), pieces).end == 13


def test_of_chains_that_lead_as_far_the_one_with_least_to_replay_is_best() -> None:
    chains = best_chains([snapshot(2), snapshot(5), snapshot(20)], [held(3, 9)])
    assert [(c.end, c.snapshot.index) for c in chains] == [(20, 20), (9, 5), (9, 2)]
