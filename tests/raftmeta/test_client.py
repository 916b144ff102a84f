"""The client against pretended metanodes: sharing, retrying, never lying about an outcome."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from osscore.errors import (
    BucketAlreadyExists,
    CommandTooLarge,
    Corrupt,
    MetadataLowSpace,
    NoLeader,
    NotReady,
    OutcomeUnknown,
    StoreError,
    Unauthenticated,
)
from osscore.model import ObjectAttributes
from ossd.clock import SystemClock, system_random
from ossd.signing import ClusterSecrets
from raftmeta.client import MetaClient, QueryHead, unwrap_catalog_key, wrap_catalog_key
from raftmeta.commands import (
    CreateBucket,
    Done,
    InlineBody,
    ObjectPut,
    OpenSession,
    PutObject,
    Refused,
)
from raftmeta.credentials import AuditNote
from raftmeta.entries import Entry
from raftmeta.leaderseek import PAUSE_S_MAX
from raftmeta.members import Member
from raftmeta.queries import BucketsListed, Found, ListBuckets, ListObjects, ObjectsListed
from raftmeta.wire import DiskHeartbeat, Heard, Heartbeat
from tests.raftmeta.fake_metanodes import LOSE_AFTER, LOSE_BEFORE, URLS, FakeMetanodes
from tests.raftmeta.waiting import until

Story = Callable[[MetaClient, "CountingClock"], Awaitable[None]]


class CountingClock(SystemClock):
    """Sleeps for no time at all and remembers for how long it was asked to."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.slept_s: list[float] = []

    def monotonic_s(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)


def run(
    nodes: FakeMetanodes, story: Callable[[MetaClient, CountingClock], Awaitable[None]]
) -> None:
    async def main() -> None:
        clock = CountingClock()
        client = MetaClient(nodes, URLS, clock=clock, random=lambda size: b"\x00" * size)
        try:
            async with asyncio.timeout(20):
                await story(client, clock)
        finally:
            await client.close()

    asyncio.run(main())


def bucket(number: int) -> CreateBucket:
    return CreateBucket(bucket=f"bucket-{number}")


def test_concurrent_proposals_share_few_requests_and_each_gets_its_own_result() -> None:
    nodes = FakeMetanodes()

    async def story(client: MetaClient, clock: CountingClock) -> None:
        await asyncio.gather(*(client.propose(bucket(n), Done) for n in range(1000)))
        assert len(nodes.applied) == 1000
        assert len(nodes.batches) <= 1 + 4
        assert nodes.in_flight_most <= 2
        assert max(len(batch) for batch in nodes.batches) <= 512

    run(nodes, story)


def test_a_command_whose_answer_was_lost_is_sent_again_and_applied_once() -> None:
    nodes = FakeMetanodes()

    async def story(client: MetaClient, clock: CountingClock) -> None:
        await client.propose(bucket(0), Done)
        nodes.faults = [LOSE_AFTER, LOSE_BEFORE, OutcomeUnknown(), StoreError("500")]
        await client.propose(bucket(1), Done)
        assert nodes.applied == [bucket(0), bucket(1)]
        sent = [batch[0] for batch in nodes.batches[2:]]
        assert {(entry.session, entry.seq) for entry in sent} == {(100, 2)}
        assert len(sent) == 2

    run(nodes, story)


def test_what_is_audited_travels_with_its_command_each_time_it_is_sent() -> None:
    nodes = FakeMetanodes()
    note = AuditNote(actor="A", action="bucket.create", target="bucket-0")

    async def story(client: MetaClient, clock: CountingClock) -> None:
        await client.propose(bucket(2), Done)  # opens the session
        begun = len(nodes.batches)
        nodes.faults = [LOSE_AFTER]
        await asyncio.gather(
            client.propose(bucket(0), Done, audit=note), client.propose(bucket(1), Done)
        )
        assert len(nodes.batches) == begun + 2
        for batch in nodes.batches[begun:]:
            audits = {entry.command: entry.audit for entry in batch}
            assert audits == {bucket(0): note, bucket(1): None}

    run(nodes, story)


def test_the_hint_of_a_follower_is_followed_at_once() -> None:
    nodes = FakeMetanodes(leader=URLS[2])

    async def story(client: MetaClient, clock: CountingClock) -> None:
        await client.propose(bucket(0), Done)
        assert [base for base, _ in nodes.calls] == [URLS[0], URLS[2], URLS[2]]
        assert clock.slept_s == [0.0]

    run(nodes, story)


def test_without_a_hint_the_others_are_asked_in_turn() -> None:
    nodes = FakeMetanodes(leader=URLS[2], hint=False, dead={URLS[0]})

    async def story(client: MetaClient, clock: CountingClock) -> None:
        await client.propose(bucket(0), Done)
        assert [base for base, _ in nodes.calls][:3] == list(URLS)

    run(nodes, story)


def test_a_new_leader_is_noticed_within_a_tenth_of_the_outage() -> None:
    nodes = FakeMetanodes(leader=None)

    async def story(client: MetaClient, clock: CountingClock) -> None:
        call = asyncio.ensure_future(client.propose(bucket(0), Done))
        await until(lambda: clock.now_s >= 0.9)
        assert max(clock.slept_s) <= 0.1
        await until(lambda: clock.now_s >= 60)
        assert 0 < max(clock.slept_s) <= PAUSE_S_MAX
        nodes.leader = URLS[1]
        await call

    run(nodes, story)


def test_deadline_without_any_leader_says_no_leader() -> None:
    nodes = FakeMetanodes(dead=set(URLS))

    async def story(client: MetaClient, clock: CountingClock) -> None:
        with pytest.raises(NoLeader):
            await client.propose(bucket(0), Done, deadline_s=0.05)
        with pytest.raises(NoLeader):
            await client.query(ListBuckets(), BucketsListed, deadline_s=0.05)

    run(nodes, story)


def test_deadline_after_a_lost_answer_says_outcome_unknown() -> None:
    nodes = FakeMetanodes()

    async def story(client: MetaClient, clock: CountingClock) -> None:
        await client.propose(bucket(0), Done)
        nodes.faults = [LOSE_AFTER]
        call = asyncio.ensure_future(client.propose(bucket(1), Done, deadline_s=0.2))
        await until(lambda: len(nodes.applied) == 2)
        nodes.leader = None
        with pytest.raises(OutcomeUnknown):
            await call

    run(nodes, story)


def test_deadline_while_the_request_is_under_way_says_outcome_unknown() -> None:
    nodes = FakeMetanodes()

    async def story(client: MetaClient, clock: CountingClock) -> None:
        await client.propose(bucket(0), Done)
        nodes.held = asyncio.Event()
        with pytest.raises(OutcomeUnknown):
            await client.propose(bucket(1), Done, deadline_s=0.05)

    run(nodes, story)


def test_expired_session_of_a_command_never_sent_before_is_replaced() -> None:
    nodes = FakeMetanodes()

    async def story(client: MetaClient, clock: CountingClock) -> None:
        await client.propose(bucket(0), Done)
        nodes.sessions.discard(100)
        nodes.sessions.add(-1)
        await asyncio.gather(*(client.propose(bucket(n), Done) for n in (1, 2)))
        assert nodes.applied == [bucket(0), bucket(1), bucket(2)]

    run(nodes, story)


def test_expired_session_of_a_command_sent_before_says_outcome_unknown() -> None:
    nodes = FakeMetanodes()

    async def story(client: MetaClient, clock: CountingClock) -> None:
        await client.propose(bucket(0), Done)
        nodes.faults = [LOSE_BEFORE]
        nodes.sessions.discard(100)
        with pytest.raises(OutcomeUnknown):
            await client.propose(bucket(1), Done)
        await client.propose(bucket(2), Done)

    run(nodes, story)


def test_idle_session_is_left_behind_before_it_expires() -> None:
    nodes = FakeMetanodes()

    async def story(client: MetaClient, clock: CountingClock) -> None:
        await client.propose(bucket(0), Done)
        clock.now_s += 300
        await client.propose(bucket(1), Done)
        assert {entry.session for batch in nodes.batches for entry in batch} == {0, 100, 101}

    run(nodes, story)


def test_cancelling_one_caller_disturbs_no_other_of_the_same_request() -> None:
    nodes = FakeMetanodes()

    async def story(client: MetaClient, clock: CountingClock) -> None:
        await client.propose(bucket(0), Done)
        nodes.held = asyncio.Event()
        calls = [asyncio.ensure_future(client.propose(bucket(n), Done)) for n in range(1, 9)]
        await until(lambda: nodes.in_flight)
        calls[3].cancel()
        await asyncio.wait({calls[3]})
        nodes.held.set()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results].count(Done) == 7
        await client.propose(bucket(9), Done)
        assert nodes.batches[-1][0].acked_below == 10

    run(nodes, story)


def test_acked_below_never_passes_a_command_still_waiting() -> None:
    nodes = FakeMetanodes()

    async def story(client: MetaClient, clock: CountingClock) -> None:
        await client.propose(bucket(0), Done)
        nodes.faults = [LOSE_AFTER] * 3
        await asyncio.gather(*(client.propose(bucket(n), Done) for n in range(1, 40)))
        for batch in nodes.batches:
            for entry in batch:
                assert entry.acked_below <= entry.seq

    run(nodes, story)


def test_a_refusal_is_raised_as_its_error() -> None:
    nodes = FakeMetanodes(
        refuse=lambda entry: Refused(refusal="BucketAlreadyExists", message="there")
    )

    async def story(client: MetaClient, clock: CountingClock) -> None:
        with pytest.raises(BucketAlreadyExists, match="there"):
            await client.propose(bucket(0), Done)

    run(nodes, story)


def test_low_space_after_a_lost_answer_is_not_reported_as_not_applied() -> None:
    nodes = FakeMetanodes()

    async def story(client: MetaClient, clock: CountingClock) -> None:
        await client.propose(bucket(0), Done)
        nodes.refuse = lambda entry: Refused(refusal="MetadataLowSpace", message="low")
        with pytest.raises(MetadataLowSpace):
            await client.propose(bucket(1), Done)
        nodes.faults = [LOSE_BEFORE]
        with pytest.raises(OutcomeUnknown):
            await client.propose(bucket(2), Done, deadline_s=0.1)

    run(nodes, story)


def test_a_request_error_of_the_whole_request_reaches_its_callers() -> None:
    nodes = FakeMetanodes()

    async def story(client: MetaClient, clock: CountingClock) -> None:
        await client.propose(bucket(0), Done)
        nodes.faults = [Unauthenticated(), LOSE_BEFORE, Unauthenticated()]
        with pytest.raises(Unauthenticated):
            await client.propose(bucket(1), Done)
        with pytest.raises(OutcomeUnknown):
            await client.propose(bucket(2), Done)

    run(nodes, story)


def test_an_unexpected_result_is_a_store_error() -> None:
    nodes = FakeMetanodes()

    async def story(client: MetaClient, clock: CountingClock) -> None:
        with pytest.raises(StoreError, match="Expected ObjectPut, got Done"):
            await client.propose(bucket(0), ObjectPut)
        with pytest.raises(StoreError, match="Expected Found, got BucketsListed"):
            await client.query(ListBuckets(), Found)

    run(nodes, story)


def inline(size_bytes: int) -> PutObject:
    return PutObject(
        bucket="b",
        key="k",
        attributes=ObjectAttributes(size_bytes=size_bytes),
        body=InlineBody(data=bytes(size_bytes)),
    )


def test_large_commands_keep_each_request_within_its_bytes() -> None:
    nodes = FakeMetanodes()

    async def story(client: MetaClient, clock: CountingClock) -> None:
        await asyncio.gather(*(client.propose(inline(300_000), Done) for _ in range(40)))
        assert len(nodes.applied) == 40
        assert max(nodes.body_sizes) <= 4 * 1024 * 1024
        with pytest.raises(CommandTooLarge):
            await client.propose(inline(9_000_000), Done)

    run(nodes, story)


def test_queries_share_requests_and_listings_travel_apart() -> None:
    nodes = FakeMetanodes(
        answer=lambda query: (
            ObjectsListed(objects=(), prefixes=())
            if isinstance(query, ListObjects)
            else BucketsListed(buckets=())
        )
    )

    async def story(client: MetaClient, clock: CountingClock) -> None:
        await asyncio.gather(
            *(client.query(ListBuckets(), BucketsListed) for _ in range(100)),
            *(client.query(ListObjects(bucket="b"), ObjectsListed) for _ in range(20)),
        )
        scans = [b for b in nodes.query_batches if isinstance(b[0], ListObjects)]
        points = [b for b in nodes.query_batches if isinstance(b[0], ListBuckets)]
        assert len(points) == 1 and max(len(b) for b in scans) == 8
        head, _ = await client.query_with_head(ListBuckets(), BucketsListed)
        assert head == QueryHead(3, 7, 5_000, 2)
        assert (client.catalog_time_ms, client.keys_epoch) == (5_000, 2)

    run(nodes, story)


def test_heartbeats_go_to_every_metanode_and_never_fail() -> None:
    nodes = FakeMetanodes(dead={URLS[1]})
    disk = DiskHeartbeat(uuid=b"u" * 16, capacity_bytes=1, free_bytes=1, writable=True)

    async def story(client: MetaClient, clock: CountingClock) -> None:
        await client.heartbeat(Heartbeat(node="n", url="http://n", zone="", disks=(disk,)))
        assert sorted(base for base, _ in nodes.calls) == list(URLS)

    run(nodes, story)


def test_closing_frees_whoever_waits() -> None:
    nodes = FakeMetanodes(held=asyncio.Event())

    async def story(client: MetaClient, clock: CountingClock) -> None:
        call = asyncio.ensure_future(client.propose(bucket(0), Done))
        await until(lambda: nodes.in_flight)
        await client.close()
        with pytest.raises(NotReady):
            await call
        with pytest.raises(NotReady):
            await client.propose(bucket(1), Done)

    run(nodes, story)


def test_first_entry_of_a_client_opens_its_session() -> None:
    nodes = FakeMetanodes()

    async def story(client: MetaClient, clock: CountingClock) -> None:
        await client.propose(bucket(0), Done)
        assert nodes.batches[0] == (Entry(session=0, seq=0, command=OpenSession()),)

    run(nodes, story)


def test_catalog_key_opens_with_either_cluster_secret() -> None:
    old = ClusterSecrets(current="an-older-cluster-secret")
    new = ClusterSecrets(current="a-newer-cluster-secret", previous=old.current)
    key = bytes(range(32))
    assert unwrap_catalog_key(new, wrap_catalog_key(old, key, system_random)) == key
    assert unwrap_catalog_key(new, wrap_catalog_key(new, key, system_random)) == key
    with pytest.raises(Corrupt):
        unwrap_catalog_key(old, wrap_catalog_key(new, key, system_random))


def test_heartbeats_follow_the_members_that_their_answers_name() -> None:
    nodes = FakeMetanodes()

    def told(index: int, *urls: str) -> Heard:
        members = tuple(Member(id=url, raft=url, url=url) for url in urls)
        return Heard(members_index=index, members=members)

    async def story(client: MetaClient, _: CountingClock) -> None:
        beat = Heartbeat(node="n", url="http://n", zone="", disks=())
        await client.heartbeat(beat)  # these metanodes say nothing of members
        assert client.urls == URLS
        nodes.heard = told(7, URLS[0], "http://d/")
        await client.heartbeat(beat)
        assert client.urls == (URLS[0], "http://d")
        nodes.heard = told(6, *URLS)  # one that is behind
        nodes.calls.clear()
        await client.heartbeat(beat)
        assert {url for url, _ in nodes.calls} == {URLS[0], "http://d"}
        assert client.urls == (URLS[0], "http://d")
        # Where it was told to begin comes last, should nobody else be there.
        nodes.dead, nodes.leader = {URLS[0], "http://d"}, URLS[2]
        assert await client.query(ListBuckets(), BucketsListed) == BucketsListed(buckets=())

    run(nodes, story)
