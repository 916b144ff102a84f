"""The leader's archive at blob daemons: how far it reaches, whoever dies, and what it costs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3

from osscore.errors import Overloaded
from osscore.model import Profile
from ossd.disk import SystemDisk
from raftmeta.archive.gathering import Gathering, best_whole, find
from raftmeta.archive.pieces import ArchivedEntry
from raftmeta.backup.container import Manifest
from raftmeta.generations import DeletionState
from raftmeta.queries import ClusterDescribed, DiskInfo, NodeInfo
from raftmeta.snapshots import PackedBackup
from raftmeta.stewards.archiving import (
    PIECE_BYTES,
    SNAPSHOT_LOG_BYTES_MIN,
    SNAPSHOT_PIECE_BYTES,
    SURVEY_S,
    Archiving,
    ArchivingSeams,
)
from raftmeta.stewards.keepers import Place, choose, copies_wanted
from tests.fakes.clock import ManualClock
from tests.fakes.disk import SimulatedDisk
from tests.raftmeta.archive.daemons import Daemons, uuid_of

WORK = SystemDisk()
URLS = [f"blob-{n}" for n in range(1, 7)]


class World:
    """A cluster whose log the test writes, six blob daemons, and one leader at a time."""

    def __init__(self, urls: Sequence[str] = URLS) -> None:
        self.clock = ManualClock()
        self.daemons = Daemons(urls)
        self.nodes = {url: node(url) for url in urls}
        self.generation, self.frozen = 1, False
        self.log = [b"\x01begin"]
        self.first = 1
        self.snapshots = 0
        self.snapshot_bytes = 1000
        self.busy = False
        self.room = True
        self.leader = self.new_leader()

    def new_leader(self) -> Archiving:
        async def profiles() -> Sequence[Profile | None]:
            return [None]

        seams = ArchivingSeams(
            described=self.described,
            profiles=profiles,
            applied_index=lambda: self.applied_index,
            read_log=self.read_log,
            packed=self.packed,
            may_copy=lambda: self.room,
            client=self.daemons,
        )
        return Archiving(seams, self.clock)

    @property
    def applied_index(self) -> int:
        return self.first + len(self.log) - 1

    def apply(self, count: int = 1, *, size_bytes: int = 20) -> None:
        for _ in range(count):
            body = blake3(str(self.applied_index).encode()).digest(length=size_bytes)
            self.log.append(b"\x00" + body)

    def cut(self, first: int) -> None:
        """This leader's log begins there."""
        self.log, self.first = self.log[first - self.first :], first

    def described(self) -> ClusterDescribed:
        return ClusterDescribed(
            cluster_id=b"c" * 16,
            catalog_key_wrapped=b"",
            system_token_digest=b"",
            keys_epoch=0,
            nodes=tuple(self.nodes.values()),
            admits_writes=True,
            inline_bytes_max=4096,
            generation=self.generation,
            deletion=DeletionState(frozen=self.frozen),
        )

    async def read_log(self, first: int, bytes_max: int) -> Sequence[ArchivedEntry] | None:
        if first < self.first:
            return None
        found: list[ArchivedEntry] = []
        for index in range(first, self.applied_index + 1):
            found.append(ArchivedEntry(index, 1, self.log[index - self.first]))
            if sum(len(each.body) for each in found) > bytes_max:
                return found[:-1] or found
        return found

    @asynccontextmanager
    async def packed(self) -> AsyncIterator[PackedBackup]:
        if self.busy:
            raise Overloaded()
        self.snapshots += 1
        data = b"catalog %d" % self.applied_index
        data += blake3(data).digest(length=self.snapshot_bytes)
        file = SimulatedDisk().open(Path("/data/packed"), create=True)
        file.pwrite([data], 0)
        manifest = Manifest(
            cluster_id="63" * 16,
            generation=self.generation,
            applied_index=self.applied_index,
            catalog_time_ms=0,
            made_at_ms=0,
            schema=1,
            size_bytes=1,
            blake3="",
            program="",
            counts={},
        )
        yield PackedBackup(manifest, file, len(data), blake3(data).hexdigest())

    async def steps(self, count: int = 1, *, seconds: float = 1.0) -> None:
        """Steps of the leader; a snapshot that one begins is complete before the next."""
        for _ in range(count):
            await self.leader.step()
            if self.leader._snapshot is not None:
                await asyncio.wait({self.leader._snapshot})
            self.clock.advance(seconds)

    async def settle(self) -> None:
        """Time enough to notice anything and to make up for it."""
        await self.steps(10, seconds=SURVEY_S / 5)
        await self.leader.step()

    async def reach(self, tmp_path: Path) -> int:
        """Up to where whoever lost all metanodes now could rebuild the catalog."""
        work = tmp_path / str(len(self.daemons.calls))
        work.mkdir()
        found = await find(self.daemons, list(self.daemons.disks), None)
        gathering = Gathering(self.daemons, found, work=work, disk=WORK)
        await gathering.fetch_logs()
        chain, _ = await best_whole(gathering, found)
        return chain.end

    def snapshot_names(self, url: str) -> list[str]:
        return [name for name in self.daemons.names(url) if name.startswith("snapshot")]


def node(url: str, *, zone: str = "", health: str = "up") -> NodeInfo:
    disk = DiskInfo(
        disk=int(url.rpartition("-")[2]),
        uuid=uuid_of(url),
        state="in",
        capacity_bytes=100,
        free_bytes=50,
        writable=True,
    )
    return NodeInfo(
        node=url, url=url, zone=zone, health=health, last_heartbeat_ms_ago=1, disks=(disk,)
    )


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
        keeping = {keeper.node for keeper in world.leader.state.keepers}
        moved = min(keeping)
        world.daemons.down = {moved}
        world.apply(3)
        await world.steps(4, seconds=SURVEY_S / 4)
        assert {keeper.node for keeper in world.leader.state.keepers} == keeping
        world.daemons.move(moved, "blob-9")
        world.nodes[moved] = msgspec.structs.replace(world.nodes[moved], url="blob-9")
        await world.steps(2, seconds=5)
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
        world.daemons.down, world.daemons.refuses_to_finish = set(), set()
        await world.settle()
        world.apply(10, size_bytes=1 << 20)
        await world.settle()
        for url in keeping:
            assert not set(old[url]) & set(world.snapshot_names(url))
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
