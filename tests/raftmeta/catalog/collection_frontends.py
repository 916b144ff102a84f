"""Frontends in the story of test_no_shard_is_lost: long bodies, dedup hits, reads, deaths.

They are slow without bound and believe only what the catalog has answered: what was named to
them must stay readable, what they held must stay theirs, and nothing else may be lost by them.
"""

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from osscore.model import ObjectAttributes, ShardIdentity, SlotState, Stripe, StripeDraft
from raftmeta.catalog.apply_moves import READERS_MS
from raftmeta.catalog.catalog import Catalog
from raftmeta.commands import (
    AbortUpload,
    BeginUpload,
    DeleteVersion,
    Done,
    HoldManifest,
    ObjectDeleted,
    ObjectPut,
    PutObject,
    Stage,
    Staged,
    StripeQuestion,
    UploadBody,
)
from raftmeta.queries import (
    FindObject,
    Found,
    ListStripes,
    ReadSegments,
    SegmentsRead,
    StripesListed,
)
from tests.raftmeta.catalog.harness import MINUTE_MS, TWO_ONE, Driver

DISKS = (1, 2, 3, 4, 5)
PICKS = st.integers(0, 1000)
CONTENTS = st.integers(1, 3)
ORDERS = st.permutations(DISKS)
TTL_MS = 30 * MINUTE_MS


@dataclass
class FakeDisk:
    """What a daemon's disk promises: durable, and a deleted identity never returns."""

    shards: set[ShardIdentity] = field(default_factory=set)
    deleted: set[ShardIdentity] = field(default_factory=set)

    def put(self, identity: ShardIdentity) -> bool:
        if identity in self.deleted:
            return False
        self.shards.add(identity)
        return True

    def delete(self, identities: set[ShardIdentity]) -> None:
        self.shards -= identities
        self.deleted |= identities


@dataclass
class LongBody:
    """An upload as its frontend remembers it. `staged`: contents in order; `hits`: (row,
    content) reserved and unused; `written`: drafts whose shards are stored, not named yet."""

    upload: bytes
    key: str
    staged: list[int] = field(default_factory=list)
    hits: list[tuple[int, int]] = field(default_factory=list)
    written: list[StripeDraft] = field(default_factory=list)


@dataclass(frozen=True)
class Hold:
    """Granted until `ends_ms` of catalog time: these contents stay readable."""

    upload: bytes
    manifest: int
    contents: tuple[int, ...]
    ends_ms: int


class Frontends(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.driver = Driver(self.directory / "catalog.sqlite")
        self.driver.form(nodes=len(DISKS))
        self.disks = {disk: FakeDisk() for disk in DISKS}
        self.uncommitted: list[StripeDraft] = []
        self.named: dict[tuple[str, int], tuple[int, ...]] = {}
        self.bodies: list[LongBody] = []
        self.holds: list[Hold] = []
        self.reads: list[tuple[int, Stripe]] = []
        self.uploads = 0

    def teardown(self) -> None:
        self.driver.catalog.close()
        shutil.rmtree(self.directory)

    def stripes(self) -> tuple[Stripe, ...]:
        listed = self.driver.ask(ListStripes())
        assert isinstance(listed, StripesListed)
        return listed.stripes

    @property
    def now_ms(self) -> int:
        return self.driver.catalog.head.catalog_time_ms

    # --- short bodies -----------------------------------------------------------------------

    @rule(
        content=CONTENTS,
        order=ORDERS,
        durable=st.sampled_from([(0, 1, 2), (0, 1, 2), (0, 1, 2), (0, 2)]),
    )
    def write_shards(self, content: int, order: list[int], durable: tuple[int, ...]) -> None:
        self.uncommitted.append(self.stored(content, order, durable))

    def stored(self, content: int, order: list[int], durable: tuple[int, ...]) -> StripeDraft:
        """A stripe whose shards are on their disks."""
        states = tuple(0 if index in durable else 1 for index in range(3))
        draft = self.driver.draft(
            content, disks=tuple(order[:3]), states=states, copies=len(durable) < 3
        )
        for slot in draft.slots:
            if slot.state is SlotState.GOOD:
                assert self.disks[slot.disk].put(ShardIdentity(draft.stripe, slot.index, 0))
        return draft

    @rule(key=st.sampled_from("ab"), pick=PICKS)
    def commit(self, key: str, pick: int) -> None:
        if self.uncommitted:
            draft = self.uncommitted.pop(pick % len(self.uncommitted))
            self.believe(key, (_content(draft),), self.driver.put(key, draft))

    def believe(self, key: str, contents: tuple[int, ...], answer: object) -> None:
        """What was acknowledged is to be there from now on."""
        if isinstance(answer, ObjectPut):
            self.named[key, answer.number] = contents

    @rule(key=st.sampled_from(("a", "b", "kept-0")), number=st.integers(1, 4))
    def delete(self, key: str, number: int) -> None:
        answer = self.driver.run(DeleteVersion(bucket="bucket", key=key, number=number))
        if isinstance(answer, ObjectDeleted):
            self.named.pop((key, number), None)

    # --- long bodies ------------------------------------------------------------------------

    @rule(key=st.sampled_from("ab"))
    def begin_long_body(self, key: str) -> None:
        self.bodies.append(self.begun(key))

    def begun(self, key: str) -> LongBody:
        body = LongBody(self.new_upload(), key)
        begin = BeginUpload(upload=body.upload, bucket="bucket", key=key, ttl_ms=TTL_MS)
        assert self.driver.run(begin) == Done()
        return body

    def new_upload(self) -> bytes:
        self.uploads += 1
        return self.uploads.to_bytes(16, "big")

    @rule(pick=PICKS, content=CONTENTS)
    def ask_for_a_twin(self, pick: int, content: int) -> None:
        if self.bodies:
            self.ask(self.bodies[pick % len(self.bodies)], content)

    def ask(self, body: LongBody, content: int) -> None:
        question = StripeQuestion(
            profile=TWO_ONE, domain=b"", digest=content.to_bytes(32, "big"), plain_bytes=1000
        )
        stage = Stage(upload=body.upload, position=len(body.staged), ask=(question,))
        answer = self.driver.run(stage)
        if isinstance(answer, Staged) and answer.hits[0]:
            body.hits.append((answer.hits[0], content))

    @rule(pick=PICKS, content=CONTENTS, order=ORDERS)
    def store_a_stripe(self, pick: int, content: int, order: list[int]) -> None:
        if self.bodies:
            body = self.bodies[pick % len(self.bodies)]
            body.written.append(self.stored(content, order, (0, 1, 2)))

    @rule(pick=PICKS, twice=st.booleans())
    def stage(self, pick: int, twice: bool) -> None:
        if self.bodies:
            self.name_next(self.bodies[pick % len(self.bodies)], twice=twice)

    def name_next(self, body: LongBody, *, twice: bool = False) -> None:
        """Name what is ready, if anything; `twice`: the first answer was lost."""
        if body.hits:
            piece: StripeDraft | int
            piece, content = body.hits.pop()
        elif body.written:
            piece = body.written.pop()
            content = _content(piece)
        else:
            return
        entry = self.driver.next(
            Stage(upload=body.upload, position=len(body.staged), append=(piece,))
        )
        (answer,) = self.driver.apply(entry)
        if twice:
            assert self.driver.apply(entry) == [answer]
        if isinstance(answer, Staged):
            body.staged.append(content)

    @rule(pick=PICKS)
    def finish(self, pick: int) -> None:
        if self.bodies:
            self.end(self.bodies.pop(pick % len(self.bodies)))

    def end(self, body: LongBody) -> None:
        """Make it an object, if the upload lived so long."""
        put = PutObject(
            bucket="bucket",
            key=body.key,
            attributes=ObjectAttributes(size_bytes=1000 * len(body.staged)),
            body=UploadBody(upload=body.upload),
        )
        self.believe(body.key, tuple(body.staged), self.driver.run(put))

    @rule(pick=PICKS)
    def give_up(self, pick: int) -> None:
        if self.bodies:
            body = self.bodies.pop(pick % len(self.bodies))
            self.driver.run(AbortUpload(upload=body.upload))

    # --- reads ------------------------------------------------------------------------------

    @rule(pick=PICKS)
    def hold(self, pick: int) -> None:
        version = self.some_version(pick)
        if version is not None:
            self.hold_version(version)

    def hold_version(self, version: tuple[str, int]) -> None:
        manifest = self.find(*version).version.manifest
        self.renew(self.new_upload(), manifest, self.named[version])

    def some_version(self, pick: int) -> tuple[str, int] | None:
        return sorted(self.named)[pick % len(self.named)] if self.named else None

    @rule(pick=PICKS)
    def renew_hold(self, pick: int) -> None:
        living = [hold for hold in self.holds if self.now_ms < hold.ends_ms]
        if living:
            hold = living[pick % len(living)]
            self.holds.remove(hold)
            self.renew(hold.upload, hold.manifest, hold.contents)

    def renew(self, upload: bytes, manifest: int, contents: tuple[int, ...]) -> None:
        granted = HoldManifest(upload=upload, manifest=manifest, ttl_ms=TTL_MS)
        assert self.driver.run(granted) == Done()
        self.holds.append(Hold(upload, manifest, contents, self.now_ms + TTL_MS))

    @rule(pick=PICKS)
    def begin_to_read(self, pick: int) -> None:
        """With the slots as they are now, and from then on without asking again."""
        stripes = self.stripes()
        if stripes:
            self.reads = [*self.reads[-3:], (self.now_ms, stripes[pick % len(stripes)])]

    # --- deaths -----------------------------------------------------------------------------

    @rule()
    def frontends_die(self) -> None:
        self.uncommitted.clear()
        self.bodies.clear()

    @rule()
    def metanode_starts_again(self) -> None:
        self.driver.catalog.close()
        self.driver.catalog = Catalog(self.driver.path)

    # --- what must hold ---------------------------------------------------------------------

    def find(self, key: str, number: int) -> Found:
        found = self.driver.ask(FindObject(bucket="bucket", key=key, number=number))
        assert isinstance(found, Found), (key, number, found)
        return found

    @invariant()
    def what_was_acknowledged_is_there(self) -> None:
        living = {stripe.row for stripe in self.stripes()}
        for (key, number), contents in self.named.items():
            segments = self.find(key, number).segments
            assert tuple(each.stripe.stored_crc for each in segments) == contents
            assert {each.stripe.row for each in segments} <= living

    @invariant()
    def what_is_held_is_there(self) -> None:
        living = {stripe.row for stripe in self.stripes()}
        for hold in self.holds:
            if self.now_ms < hold.ends_ms:
                read = self.driver.ask(ReadSegments(manifest=hold.manifest, first=0))
                assert isinstance(read, SegmentsRead), (hold, read)
                assert tuple(each.stripe.stored_crc for each in read.segments) == hold.contents
                assert {each.stripe.row for each in read.segments} <= living

    @invariant()
    def who_reads_finds_the_shards_where_they_were(self) -> None:
        for began_ms, stripe in self.reads:
            if self.now_ms - began_ms < READERS_MS:
                for slot in stripe.slots:
                    if slot.state is SlotState.GOOD:
                        identity = ShardIdentity(stripe.stripe, slot.index, slot.gen)
                        assert identity in self.disks[slot.disk].shards, (began_ms, slot)


def _content(draft: StripeDraft) -> int:
    return draft.stored_crc
