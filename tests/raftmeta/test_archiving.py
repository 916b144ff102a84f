"""The leader's archive at blob daemons: how far it reaches, whoever dies, and what it costs."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from osscore.model import Profile
from raftmeta.archive.pieces import SnapshotName, parse_name
from raftmeta.stewards.archiving import (
    LOOK_S,
    PIECE_BYTES,
    SNAPSHOT_LOG_BYTES_MIN,
    SNAPSHOT_PIECE_BYTES,
    SURVEY_S,
)
from raftmeta.stewards.keepers import Place, choose, copies_wanted
from tests.raftmeta.archive.daemons import FOLDER, uuid_of
from tests.raftmeta.archive.world import URLS, World, node


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(story(), timeout=30)

    asyncio.run(bounded())


@pytest.fixture
def world() -> World:
    return World()


def test_what_was_applied_lies_in_three_whole_archives(world: World, tmp_path: Path) -> None:
    async def story() -> None:
        await world.steps(2)
        world.apply(50)
        await world.steps(1, seconds=0)
        state = world.leader.state
        assert (state.archived_index, state.copies, state.copies_wanted) == (51, 3, 3)
        assert state.lag_ms == 0 and not state.problem and len(world.daemons.keeping()) == 3
        for url in world.daemons.keeping():
            world.daemons.down = set(URLS) - {url}
            assert await world.reach(tmp_path) == 51, "each is enough by itself"

    run(story)


def test_an_idle_cluster_is_left_alone(world: World) -> None:
    async def story() -> None:
        await world.settle()
        before = len(world.daemons.calls)
        await world.steps(int(SURVEY_S) - 2)
        since = world.daemons.calls[before:]
        assert world.snapshots == 1 and since == [("held", url) for _, url in since]
        assert len(since) <= len(URLS), "one look a minute"

    run(story)


def test_pieces_and_snapshots_are_sent_in_bounded_parts(world: World, tmp_path: Path) -> None:
    async def story() -> None:
        world.snapshot_bytes = 3 * SNAPSHOT_PIECE_BYTES
        await world.steps(2)
        assert world.daemons.largest_bytes == SNAPSHOT_PIECE_BYTES
        world.daemons.largest_bytes = 0
        world.apply(40, size_bytes=PIECE_BYTES // 10)
        world.apply(1, size_bytes=3 * PIECE_BYTES)
        await world.steps(1)
        assert world.daemons.largest_bytes < 3 * PIECE_BYTES + 10_000
        assert await world.reach(tmp_path) == world.applied_index

    run(story)


def test_the_next_leader_goes_on_with_the_chain(world: World, tmp_path: Path) -> None:
    async def story() -> None:
        await world.steps(2)
        world.apply(5)
        await world.steps(1)
        keeping = world.daemons.keeping()
        world.leader = world.new_leader()
        world.apply(5)
        await world.steps(1)
        assert world.snapshots == 1 and world.daemons.keeping() == keeping
        assert world.leader.state.archived_index == 11 == await world.reach(tmp_path)
        world.leader = world.new_leader()
        world.apply(300, size_bytes=500)
        await world.steps(1)
        assert world.snapshots == 1 and await world.reach(tmp_path) == 311

    run(story)


def test_a_leader_whose_log_does_not_reach_back_begins_with_a_snapshot(
    world: World, tmp_path: Path
) -> None:
    async def story() -> None:
        await world.steps(2)
        world.apply(20)
        world.cut(10)
        world.leader = world.new_leader()
        await world.steps(2)
        assert world.snapshots == 2
        world.apply(3)
        await world.steps(1)
        assert world.leader.state.archived_index == 24 == await world.reach(tmp_path)
        for url in world.daemons.keeping():
            assert len(world.snapshot_names(url)) == 1, "the older one is of no use any more"

    run(story)


def test_two_leaders_for_a_moment_write_one_history(world: World, tmp_path: Path) -> None:
    async def story() -> None:
        await world.steps(2)
        former, world.leader = world.leader, world.new_leader()
        for _ in range(4):
            world.apply(3)
            await world.steps(1)
            world.apply(3)
            await former.step()
        await world.settle()
        assert await world.reach(tmp_path) == world.applied_index
        assert world.leader.state.archived_index == world.applied_index

    run(story)


def test_lag_is_told_while_a_keeper_does_not_answer_and_made_up_for(
    world: World, tmp_path: Path
) -> None:
    async def story() -> None:
        await world.steps(2)
        late = world.daemons.keeping()[0]
        world.daemons.down = {late}
        world.apply(5)
        await world.steps(3)
        state = world.leader.state
        assert (state.archived_index, state.applied_index) == (1, 6)
        assert 3000 <= state.lag_ms <= 5000
        assert [k.problem != "" for k in state.keepers if k.node == late] == [True]
        assert await world.reach(tmp_path) == 6, "two have it nevertheless"
        world.daemons.down = set()
        world.daemons.restart(late)
        await world.steps(1, seconds=0)
        state = world.leader.state
        assert (state.archived_index, state.lag_ms, world.snapshots) == (6, 0, 1)

    run(story)


def test_another_disk_takes_the_place_of_one_that_is_gone(world: World, tmp_path: Path) -> None:
    async def story() -> None:
        await world.steps(2)
        gone = world.daemons.keeping()[0]
        world.daemons.down = {gone}
        world.nodes[gone] = node(gone, health="down")
        world.apply(5)
        await world.settle()
        state = world.leader.state
        assert (state.archived_index, state.copies) == (6, 3)
        assert gone not in {keeper.node for keeper in state.keepers}
        world.daemons.down = {url for url in URLS if url != state.keepers[0].node}
        assert await world.reach(tmp_path) == 6

    run(story)


def test_a_daemon_that_restarts_keeps_its_place_wherever_it_comes_back(world: World) -> None:
    async def story() -> None:
        await world.steps(2)
        await world.steps(1, seconds=SURVEY_S - 3 * LOOK_S)
        keeping = {keeper.node for keeper in world.leader.state.keepers}
        moved = min(keeping)
        world.daemons.down = {moved}
        world.apply(3)
        asked = len(world.daemons.calls)
        while ("held", moved) not in world.daemons.calls[asked:]:
            await world.steps(1, seconds=LOOK_S)
        assert {keeper.node for keeper in world.leader.state.keepers} == keeping
        world.daemons.move(moved, "blob-9")
        world.nodes[moved] = msgspec.structs.replace(world.nodes[moved], url="blob-9")
        await world.steps(2, seconds=LOOK_S)
        assert world.snapshots == 1 and world.leader.state.archived_index == 4

    run(story)


def test_a_disk_that_says_it_keeps_nothing_more_is_not_chosen(world: World) -> None:
    async def story() -> None:
        await world.steps(2)
        failing = min(keeper.node for keeper in world.leader.state.keepers)
        world.daemons.shelf(failing).fail(OSError(5, "it failed"))
        await world.settle()
        assert failing not in {keeper.node for keeper in world.leader.state.keepers}
        assert world.leader.state.copies == 3

    run(story)


def test_a_full_disk_is_passed_over_at_once(world: World) -> None:
    async def story() -> None:
        await world.steps(2)
        full = world.daemons.keeping()[0]
        world.daemons.full = {full}
        world.apply(5)
        await world.steps(8)
        assert full not in {keeper.node for keeper in world.leader.state.keepers}
        assert world.leader.state.archived_index == 6

    run(story)


def test_fewer_nodes_keep_fewer_copies_and_that_is_told() -> None:
    async def story() -> None:
        world = World(URLS[:2])
        await world.settle()
        world.apply(3)
        await world.steps(1)
        state = world.leader.state
        assert (state.archived_index, state.copies, state.copies_wanted) == (4, 2, 3)

    run(story)


def test_files_lost_behind_the_leaders_back_are_noticed(world: World, tmp_path: Path) -> None:
    async def story() -> None:
        await world.steps(2)
        lost = world.daemons.keeping()[0]
        world.daemons.wipe(lost)
        await world.settle()
        world.apply(2)
        await world.steps(1)
        assert world.leader.state.archived_index == 3
        keeping = {keeper.node for keeper in world.leader.state.keepers if keeper.is_whole}
        world.daemons.down = set(URLS) - {max(keeping)}
        assert len(keeping) == 3 and await world.reach(tmp_path) == 3

    run(story)


@pytest.mark.parametrize(("kind", "snapshots"), [("snapshot", 2), ("log", 2), ("log's end", 1)])
def test_what_rots_is_sent_again_and_once(
    world: World, tmp_path: Path, kind: str, snapshots: int
) -> None:
    """The end of a log by itself, as long as the leader has it; else by a snapshot."""

    async def story() -> None:
        await world.steps(2)
        for _ in range(1 if kind == "log's end" else 5):
            world.apply(5 if kind == "log's end" else 1)
            await world.steps(1)
        rotten = min(keeper.node for keeper in world.leader.state.keepers)
        shelf, disk = world.daemons.shelf(rotten), world.daemons.disks[rotten]
        path = world.daemons.path(rotten, kind.partition("'")[0])
        disk.flip_bit(path, len(disk.content(path)) // 2)
        name = parse_name(path.name)
        assert name is not None
        shelf.note_damage(name)
        for _ in range(4):
            await world.settle()
        assert world.snapshots == snapshots
        state = world.leader.state
        assert (state.archived_index, state.copies) == (6, 3)
        world.daemons.down = {url for url in URLS if url != rotten}
        assert await world.reach(tmp_path) == 6

    run(story)


def test_a_snapshot_follows_once_the_log_is_longer_than_the_last_one(world: World) -> None:
    async def story() -> None:
        await world.steps(2)
        world.apply(7, size_bytes=1 << 20)
        await world.steps(10)
        assert world.snapshots == 1
        world.apply(2, size_bytes=1 << 20)
        await world.steps(10)
        assert world.snapshots == 2
        assert world.leader.state.log_bytes < SNAPSHOT_LOG_BYTES_MIN
        for url in world.daemons.keeping():
            assert len(world.snapshot_names(url)) == 1
            assert len(world.daemons.names(url)) <= 3, "log files before it are gone"

    run(story)


def test_old_archives_go_only_once_as_many_keep_the_new_one(world: World, tmp_path: Path) -> None:
    async def story() -> None:
        await world.steps(2)
        keeping = world.daemons.keeping()
        old = {url: world.snapshot_names(url) for url in keeping}
        world.daemons.refuses_to_finish = set(keeping[1:])
        world.apply(10, size_bytes=1 << 20)
        await world.steps(5)
        assert world.snapshots >= 2
        for url in keeping:
            assert set(old[url]) <= set(world.snapshot_names(url)), "only one has the new one"
        world.daemons.down = {keeping[0]}
        assert await world.reach(tmp_path) == world.applied_index
        passed_over = next(url for url in URLS if url not in keeping)
        half = str(SnapshotName(1, 5, "ab" * 32))
        world.daemons.shelf(passed_over).take_snapshot_piece(half, 0, b"a leader died then")
        world.daemons.down, world.daemons.refuses_to_finish = set(), set()
        await world.settle()
        world.apply(10, size_bytes=1 << 20)
        await world.settle()
        for url in keeping:
            assert not set(old[url]) & set(world.snapshot_names(url))
        for url in URLS:
            left = world.daemons.disks[url]
            names = left.names(FOLDER) if left.exists(FOLDER) else []
            assert not any(name.endswith(".part") for name in names), "nor is any half"
        assert await world.reach(tmp_path) == world.applied_index

    run(story)


def test_a_restored_catalog_spares_the_archives_before_it_until_it_is_adopted(
    world: World,
) -> None:
    """The wrong backup may have been restored: what is newer must still be there."""

    async def story() -> None:
        await world.steps(2)
        world.apply(5)
        await world.steps(1)
        before = {url: world.daemons.names(url) for url in world.daemons.keeping()}
        world.generation, world.frozen = 2, True
        world.cut(world.applied_index)
        world.first += 1 << 32
        world.leader = world.new_leader()
        await world.settle()
        assert world.leader.state.archived_index == world.applied_index
        for url, names in before.items():
            assert set(names) <= set(world.daemons.names(url))
        world.frozen = False
        world.apply(10, size_bytes=1 << 20)
        await world.settle()
        for url, names in before.items():
            assert not set(names) & set(world.daemons.names(url))

    run(story)


def test_without_room_or_turn_for_a_copy_the_log_goes_on_and_says_so(world: World) -> None:
    async def story() -> None:
        await world.steps(2)
        world.room = False
        world.apply(10, size_bytes=1 << 20)
        await world.steps(8)
        assert world.snapshots == 1 and world.leader.state.archived_index == 11
        assert "no room" in world.leader.state.problem
        world.room, world.busy = True, True
        await world.steps(3)
        assert world.snapshots == 1
        world.busy = False
        await world.settle()
        assert world.snapshots == 2 and not world.leader.state.problem

    run(story)


def test_keepers_lie_in_different_zones_and_stay_where_they_are() -> None:
    places = [Place(uuid_of(url), url, url, f"z{n % 2}", 100 + n) for n, url in enumerate(URLS)]
    chosen = choose(places, {}, (), 3)
    assert len({each.node for each in chosen}) == 3 and {c.zone for c in chosen} == {"z0", "z1"}
    current = {each.uuid for each in chosen}
    fuller = [with_room(place, 1 if place.uuid in current else 10**9) for place in places]
    assert {each.uuid for each in choose(fuller, {}, current, 3)} == current
    reaches = {places[0].uuid: 9, places[3].uuid: 9, places[2].uuid: 8}
    assert {e.uuid for e in choose(places, reaches, (), 3)} == reaches.keys()
    one_node = [Place(bytes([n]) * 16, "blob-1", "u", "", 5) for n in range(4)]
    assert len(choose(one_node, {}, (), 3)) == 1


def with_room(place: Place, free_bytes: int) -> Place:
    return Place(place.uuid, place.node, place.url, place.zone, free_bytes)


def test_one_copy_more_than_any_stripe_may_lose() -> None:
    nodes = [node(url) for url in URLS]
    assert copies_wanted(nodes[:3], [None]) == 3
    assert copies_wanted(nodes, [None, Profile(8, 4)]) == 5


def test_the_state_travels(world: World) -> None:
    async def story() -> None:
        await world.steps(2)
        state = world.leader.state
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=type(state)) == state

    run(story)
