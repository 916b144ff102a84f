"""A command that holds only while its access key is what it was: judged where it is applied.

Hypothesis lets keys come, change and go; whatever was read of one, at whatever time, a command
under that condition is applied exactly if reading it again would say the same.
"""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from osscore.errors import CommandTooLarge, MetadataLowSpace
from osscore.model import INLINE_BYTES_MAX
from raftmeta.admission import refusal as not_admitted
from raftmeta.admission import rows_of
from raftmeta.catalog.catalog import Catalog
from raftmeta.commands import (
    CreateBucket,
    DeleteObject,
    DeleteVersion,
    Done,
    ObjectDeleted,
    ObjectPut,
    Undelete,
)
from raftmeta.credentials import (
    AccessKeyFound,
    AuditListed,
    AuditNote,
    ChangeAccessKey,
    FindAccessKey,
    IfKeyUnchanged,
    KeyedCommand,
    ListAudit,
    PutAccessKey,
    RevokeAccessKey,
    RotateAccessKey,
)
from raftmeta.entries import AnyCommand, Entry
from raftmeta.queries import CountCatalog
from tests.raftmeta.catalog.harness import MINUTE_MS, Driver, refusal

KEY = PutAccessKey(access_key="A", secret_sealed=b"s", scopes=("upload",))
KEYS = st.sampled_from(["A", "B"])
SCOPES = ("upload", "delete")
MINUTES = st.sampled_from([0, 0, 0.5, 1, 20])
ROTATE = RotateAccessKey(access_key="A", secret_sealed=b"t")
CHANGES: dict[str, tuple[AnyCommand, ...]] = {
    "revoked": (RevokeAccessKey(access_key="A"),),
    "made again": (RevokeAccessKey(access_key="A"), KEY),
    "replaced": (KEY,),
    "disabled": (ChangeAccessKey(access_key="A", disabled=True),),
    "narrowed": (ChangeAccessKey(access_key="A", prefixes=("p/",)),),
    "widened": (ChangeAccessKey(access_key="A", scopes=("upload", "delete")),),
    "rotated": (ROTATE,),
    "rotated with an overlap": (msgspec.structs.replace(ROTATE, overlap_ms=MINUTE_MS),),
}


def look(driver: Driver, access_key: str = "A") -> AccessKeyFound:
    found = driver.ask(FindAccessKey(access_key=access_key))
    assert isinstance(found, AccessKeyFound)
    return found


def condition(found: AccessKeyFound, command: KeyedCommand, **more: bool) -> IfKeyUnchanged:
    return IfKeyUnchanged(
        access_key=found.access_key, changed_at_ms=found.changed_at_ms, command=command, **more
    )


@pytest.fixture
def keyed(driver: Driver) -> Driver:
    """A catalog with a key A, and an object with one version."""
    driver.run(KEY)
    driver.put_inline("k", b"first")
    return driver


def number_after(driver: Driver) -> int:
    """The number that the next version of the object takes."""
    put = driver.put_inline("k", b"next")
    assert isinstance(put, ObjectPut)
    return put.number


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_is_done_under_a_key_that_is_not_what_it_was(keyed: Driver, change: str) -> None:
    found = look(keyed)
    for command in CHANGES[change]:
        assert keyed.run(command) == Done()
    before = keyed.ask(CountCatalog())
    note = AuditNote(actor="A", action="put")
    for inner in (
        keyed.put_command("k", b"never"),
        DeleteObject(bucket="bucket", key="k"),
        DeleteVersion(bucket="bucket", key="k", number=1),
        Undelete(bucket="bucket", key="k"),
        CreateBucket(bucket="another"),
    ):
        entry = keyed.next(condition(found, inner))
        (result,) = keyed.apply(msgspec.structs.replace(entry, audit=note))
        assert refusal(result) == "KeyChanged"
    assert keyed.ask(CountCatalog()) == before
    assert keyed.ask(ListAudit()) == AuditListed(rows=(), next=None)
    assert number_after(keyed) == 2


def test_under_a_key_that_is_what_it_was_all_is_as_without(keyed: Driver) -> None:
    found = look(keyed)
    keyed.run(msgspec.structs.replace(KEY, access_key="B"))  # others may change
    put = keyed.run(condition(found, keyed.put_command("k", b"second")))
    assert isinstance(put, ObjectPut) and put.number == 2
    hidden = keyed.run(condition(found, DeleteObject(bucket="bucket", key="k")))
    assert isinstance(hidden, ObjectDeleted) and hidden.is_marker
    missing = condition(found, DeleteVersion(bucket="bucket", key="k", number=9))
    assert refusal(keyed.run(missing)) == "NoSuchVersion"
    note = AuditNote(actor="A", action="bucket.create")
    entry = keyed.next(condition(found, CreateBucket(bucket="another")))
    assert keyed.apply(msgspec.structs.replace(entry, audit=note)) == [Done()]
    listed = keyed.ask(ListAudit())
    assert isinstance(listed, AuditListed)
    assert [(row.action, row.outcome) for row in listed.rows] == [("bucket.create", "done")]


def test_within_a_batch_the_order_counts(keyed: Driver) -> None:
    found = look(keyed)
    before, after = (condition(found, keyed.put_command("k", b"x")) for _ in range(2))
    revoke = RevokeAccessKey(access_key="A")
    results = keyed.apply(*(keyed.next(each) for each in (before, revoke, after)))
    assert [refusal(each) for each in results] == ["", "", "KeyChanged"]


def test_a_key_made_again_within_a_batch_is_another(keyed: Driver) -> None:
    found = look(keyed)
    put = condition(found, keyed.put_command("k", b"x"))
    commands = (RevokeAccessKey(access_key="A"), KEY, put)
    results = keyed.apply(*(keyed.next(each) for each in commands))
    assert refusal(results[2]) == "KeyChanged"


def test_a_request_sent_again_is_answered_the_same(keyed: Driver) -> None:
    found = look(keyed)
    done = keyed.next(condition(found, keyed.put_command("k", b"second")))
    first = keyed.apply(done)
    keyed.run(ROTATE)
    assert keyed.apply(done) == first
    refused = keyed.next(condition(found, keyed.put_command("k", b"third")))
    assert [refusal(each) for each in keyed.apply(refused)] == ["KeyChanged"]
    assert [refusal(each) for each in keyed.apply(refused)] == ["KeyChanged"]
    assert number_after(keyed) == 3


def test_a_key_ends_by_catalog_time(keyed: Driver) -> None:
    expires_at_ms = keyed.now_ms + MINUTE_MS
    keyed.run(ChangeAccessKey(access_key="A", expires_at_ms=expires_at_ms))
    put = condition(look(keyed), keyed.put_command("k", b"x"))
    keyed.now_ms = expires_at_ms - 1
    assert [refusal(each) for each in keyed.apply(keyed.next(put))] == [""]
    keyed.now_ms = expires_at_ms
    assert [refusal(each) for each in keyed.apply(keyed.next(put))] == ["KeyChanged"]


def test_a_former_secret_ends_with_its_overlap(keyed: Driver) -> None:
    keyed.run(msgspec.structs.replace(ROTATE, overlap_ms=MINUTE_MS))
    found = look(keyed)
    put = keyed.put_command("k", b"x")
    former, current = condition(found, put, is_former_secret=True), condition(found, put)
    keyed.now_ms = found.previous_until_ms - 1
    assert [refusal(each) for each in keyed.apply(keyed.next(former))] == [""]
    keyed.now_ms = found.previous_until_ms
    results = keyed.apply(keyed.next(former), keyed.next(current))
    assert [refusal(each) for each in results] == ["KeyChanged", ""]


@pytest.mark.parametrize("changed_at_ms", [0, -1, (1 << 63) + 5, (1 << 64) - 1])
def test_no_number_stops_a_replica(keyed: Driver, changed_at_ms: int) -> None:
    asked = condition(look(keyed), DeleteObject(bucket="bucket", key="k"))
    asked = msgspec.structs.replace(asked, changed_at_ms=changed_at_ms)
    assert refusal(keyed.run(asked)) == "KeyChanged"


def test_a_condition_needs_a_session(keyed: Driver) -> None:
    asked = condition(look(keyed), keyed.put_command("k", b"x"))
    assert refusal(keyed.apply(Entry(0, 0, asked))[0]) == "InvalidArgument"


def test_a_condition_is_admitted_as_what_it_is_for(keyed: Driver) -> None:
    found = look(keyed)
    small, large = (keyed.put_command("k", bytes(n)) for n in (1, INLINE_BYTES_MAX + 1))
    removal = DeleteVersion(bucket="bucket", key="k", number=1)
    for inner in (small, removal, Undelete(bucket="bucket", key="k")):
        assert rows_of(condition(found, inner)) == rows_of(inner)
    too_large = not_admitted(condition(found, large), admits_writes=True)
    assert isinstance(too_large, CommandTooLarge)
    assert isinstance(not_admitted(condition(found, small), admits_writes=False), MetadataLowSpace)
    assert not_admitted(condition(found, small), admits_writes=True) is None
    assert not_admitted(condition(found, removal), admits_writes=False) is None


@dataclass(frozen=True)
class Seen:
    """A key as a frontend remembers it, and with which secret its caller came."""

    found: AccessKeyFound
    is_former: bool


class KeyedHistory(RuleBasedStateMachine):
    """What is remembered is used whenever, however old it is."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.driver = Driver(self.directory / "catalog.sqlite")
        self.driver.form()
        self.seen: list[Seen] = []
        self.number = 0

    @rule(key=KEYS, expires_in=st.sampled_from([0, 0, 1, 20]), scope=st.sampled_from(SCOPES))
    def put_access_key(self, key: str, expires_in: int, scope: str) -> None:
        expires_at_ms = self.driver.now_ms + expires_in * MINUTE_MS if expires_in else 0
        self.driver.run(
            PutAccessKey(
                access_key=key,
                secret_sealed=b"s",
                scopes=(scope,),
                expires_at_ms=expires_at_ms,
            )
        )

    @rule(key=KEYS, disabled=st.sampled_from([None, True, False, False]), note=st.booleans())
    def change_access_key(self, key: str, disabled: bool | None, note: bool) -> None:
        noted = "a note" if note else None
        self.driver.run(ChangeAccessKey(access_key=key, disabled=disabled, note=noted))

    @rule(key=KEYS, overlap=st.sampled_from([0, 1, 1, 20]))
    def rotate_access_key(self, key: str, overlap: int) -> None:
        self.driver.run(
            RotateAccessKey(access_key=key, secret_sealed=b"t", overlap_ms=overlap * MINUTE_MS)
        )

    @rule(key=KEYS)
    def revoke_access_key(self, key: str) -> None:
        self.driver.run(RevokeAccessKey(access_key=key))

    @rule(key=KEYS)
    def remember(self, key: str) -> None:
        found = self.driver.ask(FindAccessKey(access_key=key))
        if not isinstance(found, AccessKeyFound):
            self.put_access_key(key, expires_in=20, scope="upload")
            self.rotate_access_key(key, overlap=1)
            found = look(self.driver, key)
        self.seen.append(Seen(found, is_former=False))
        if found.previous_sealed:
            self.seen.append(Seen(found, is_former=True))

    @rule(newest=st.integers(0, 2), minutes=MINUTES)
    def write(self, newest: int, minutes: float) -> None:
        """By something remembered, after a while."""
        self.write_after(newest, minutes)

    @rule(key=KEYS, newest=st.integers(0, 1), minutes=MINUTES)
    def remember_and_write(self, key: str, newest: int, minutes: float) -> None:
        self.remember(key)
        self.write_after(newest, minutes)

    @rule(key=KEYS)
    def write_after_a_revocation_in_the_same_batch(self, key: str) -> None:
        self.remember(key)
        self.write_after(0, 0, RevokeAccessKey(access_key=key))

    def write_after(self, newest: int, minutes: float, *before: AnyCommand) -> None:
        self.driver.pass_time(int(minutes * MINUTE_MS))
        if not self.seen:
            return
        seen = self.seen[-1 - newest % len(self.seen)]
        put = condition(
            seen.found, self.driver.put_command("k", b"x"), is_former_secret=seen.is_former
        )
        self.driver.now_ms += 10
        result = self.driver.apply(*(self.driver.next(each) for each in (*before, put)))[-1]
        if self.holds(seen):
            self.number += 1
            assert isinstance(result, ObjectPut), "a good key was refused"
            assert result.number == self.number
        else:
            assert refusal(result) == "KeyChanged", "a key that is not what it was wrote"

    def holds(self, seen: Seen) -> bool:
        """Whether reading the key again says the same, at the time of what was applied last."""
        now = self.driver.ask(FindAccessKey(access_key=seen.found.access_key))
        if not isinstance(now, AccessKeyFound):
            return False
        was_former, is_former = seen.found.previous_sealed, now.previous_sealed
        if seen.is_former and was_former != is_former:
            return False
        return _but_overlaps(seen.found) == _but_overlaps(now)

    def teardown(self) -> None:
        assert self.driver.catalog.contradictions() == []
        replayed = Catalog(self.directory / "replayed.sqlite")
        for index, blob in enumerate(self.driver.log, start=1):
            replayed.apply(index, blob)
        assert replayed.fingerprint() == self.driver.catalog.fingerprint()
        replayed.close()
        self.driver.catalog.close()
        shutil.rmtree(self.directory)


def _but_overlaps(found: AccessKeyFound) -> AccessKeyFound:
    return msgspec.structs.replace(found, previous_sealed=b"", previous_until_ms=0)


TestKeyedHistory = KeyedHistory.TestCase
TestKeyedHistory.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
