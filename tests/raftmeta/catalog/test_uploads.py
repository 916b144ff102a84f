"""Long bodies and long reads: SAFETY rules 4 and 18."""

import sqlite3
from collections import Counter

import msgspec
import pytest

from osscore.model import ObjectAttributes, ShardIdentity
from raftmeta.catalog.apply_uploads import RESERVED_MAX, ROWS_MAX
from raftmeta.commands import (
    AbortUpload,
    BeginUpload,
    Collected,
    DeleteBucket,
    DeleteVersion,
    Done,
    HoldManifest,
    MarkBad,
    ObjectPut,
    PutObject,
    Stage,
    Staged,
    StripeQuestion,
    UploadBody,
)
from raftmeta.queries import (
    CatalogCounted,
    CountCatalog,
    FindObject,
    Found,
    ReadSegments,
    SegmentsRead,
)
from tests.raftmeta.catalog.harness import GRACE_MS, MINUTE_MS, TWO_ONE, Driver, refusal

UPLOAD = b"u" * 16


def begin(driver: Driver, upload: bytes = UPLOAD, key: str = "k", ttl_ms: int = GRACE_MS) -> object:
    return driver.run(BeginUpload(upload=upload, bucket="bucket", key=key, ttl_ms=ttl_ms))


def commit(driver: Driver, size_bytes: int, upload: bytes = UPLOAD, key: str = "k") -> object:
    attributes = ObjectAttributes(size_bytes=size_bytes)
    body = UploadBody(upload=upload)
    return driver.run(PutObject(bucket="bucket", key=key, attributes=attributes, body=body))


def question(content: int) -> StripeQuestion:
    digest = content.to_bytes(32, "big")
    return StripeQuestion(profile=TWO_ONE, domain=b"", digest=digest, plain_bytes=1000)


def ask(driver: Driver, *contents: int) -> Staged:
    asked = tuple(question(content) for content in contents)
    staged = driver.run(Stage(upload=UPLOAD, position=0, ask=asked))
    assert isinstance(staged, Staged), staged
    return staged


def counted(driver: Driver) -> CatalogCounted:
    answer = driver.ask(CountCatalog())
    assert isinstance(answer, CatalogCounted)
    return answer


def found(driver: Driver, key: str = "k") -> Found:
    answer = driver.ask(FindObject(bucket="bucket", key=key))
    assert isinstance(answer, Found), answer
    return answer


def test_a_staged_body_becomes_one_object(driver: Driver) -> None:
    begin(driver)
    for position in range(3):
        driver.run(Stage(upload=UPLOAD, position=position, append=(driver.draft(position + 1),)))
    assert isinstance(commit(driver, 3000), ObjectPut)
    segments = found(driver).segments
    assert [(s.start, s.length, s.stripe.stored_crc) for s in segments] == [
        (0, 1000, 1),
        (1000, 1000, 2),
        (2000, 1000, 3),
    ]
    assert counted(driver).uploads == 0


def test_an_upload_of_nothing_is_an_empty_object(driver: Driver) -> None:
    begin(driver)
    assert isinstance(commit(driver, 0), ObjectPut)
    assert (found(driver).inline, found(driver).segments) == (None, ())


def test_windows_must_continue_exactly(driver: Driver) -> None:
    begin(driver)
    assert (
        refusal(driver.run(Stage(upload=UPLOAD, position=1, append=(driver.draft(1),))))
        == "UploadOutOfOrder"
    )
    entry = driver.next(Stage(upload=UPLOAD, position=0, append=(driver.draft(1),)))
    first = driver.apply(entry)
    assert driver.apply(entry) == first, "a retry is answered, not staged twice"
    assert isinstance(commit(driver, 1000), ObjectPut)


def test_a_reserved_hit_survives_its_only_owner(driver: Driver) -> None:
    driver.put("owner", driver.draft(1))
    begin(driver)
    hits = ask(driver, 1, 2).hits
    assert hits[0] and hits[1] == 0
    driver.run(DeleteVersion(bucket="bucket", key="owner", number=1))
    assert counted(driver).dead_stripes == 0
    staged = driver.run(Stage(upload=UPLOAD, position=0, append=(hits[0], driver.draft(2))))
    assert isinstance(staged, Staged) and staged.staged_bytes == 2000
    assert isinstance(commit(driver, 2000), ObjectPut)
    assert len(found(driver).segments) == 2


def test_a_commit_gives_unused_hits_back(driver: Driver) -> None:
    driver.put("owner", driver.draft(1))
    begin(driver)
    ask(driver, 1, 1)
    assert isinstance(commit(driver, 0), ObjectPut)
    driver.run(DeleteVersion(bucket="bucket", key="owner", number=1))
    assert counted(driver).dead_stripes == 1


def test_a_hit_must_be_reserved_by_this_upload(driver: Driver) -> None:
    driver.put("owner", driver.draft(1))
    begin(driver)
    row = ask(driver, 1).hits[0]
    begin(driver, upload=b"v" * 16)
    other = Stage(upload=b"v" * 16, position=0, append=(row,))
    assert refusal(driver.run(other)) == "NoSuchStripe"
    twice = Stage(upload=UPLOAD, position=0, append=(row, row))
    assert refusal(driver.run(twice)) == "NoSuchStripe"
    assert isinstance(driver.run(Stage(upload=UPLOAD, position=0, append=(row,))), Staged)


def test_a_hit_that_fell_ill_is_not_accepted(driver: Driver) -> None:
    draft = driver.draft(1)
    driver.put("owner", draft)
    begin(driver)
    row = ask(driver, 1).hits[0]
    driver.run(MarkBad(identity=ShardIdentity(draft.stripe, 0, 0), disk=1))
    again = Stage(upload=UPLOAD, position=0, append=(row,))
    assert refusal(driver.run(again)) == "UnderReplicated"
    assert ask(driver, 1).hits == (0,), "nor is it offered"


def test_an_aborted_upload_gives_everything_back(driver: Driver) -> None:
    driver.put("owner", driver.draft(1))
    before = counted(driver)
    begin(driver)
    ask(driver, 1)
    driver.run(Stage(upload=UPLOAD, position=0, append=(driver.draft(2),)))
    assert driver.run(AbortUpload(upload=UPLOAD)) == Done()
    assert driver.run(AbortUpload(upload=UPLOAD)) == Done()
    after = counted(driver)
    assert (after.uploads, after.segments, after.stripes) == (0, before.segments, before.stripes)
    assert after.dead_stripes == 1
    assert refusal(commit(driver, 1000)) == "NoSuchUpload"


def test_an_upload_expires_after_its_last_stage(driver: Driver) -> None:
    begin(driver, ttl_ms=30 * MINUTE_MS)
    driver.pass_time(20 * MINUTE_MS)
    driver.run(Stage(upload=UPLOAD, position=0, append=(driver.draft(1),)))
    driver.pass_time(20 * MINUTE_MS)
    assert driver.collect() == Collected()
    driver.pass_time(11 * MINUTE_MS)
    assert driver.collect() == Collected(uploads=1)
    assert refusal(commit(driver, 1000)) == "NoSuchUpload"
    assert counted(driver).dead_stripes == 1


def test_an_upload_belongs_to_its_object_and_keeps_the_bucket(driver: Driver) -> None:
    assert begin(driver) == begin(driver) == Done()
    assert refusal(begin(driver, key="other")) == "Conflict"
    assert refusal(commit(driver, 0, key="other")) == "NoSuchUpload"
    assert refusal(driver.run(DeleteBucket(bucket="bucket"))) == "BucketNotEmpty"
    assert refusal(begin(driver, upload=b"short")) == "InvalidArgument"


def test_the_promised_size_is_checked_at_the_commit(driver: Driver) -> None:
    begin(driver)
    driver.run(Stage(upload=UPLOAD, position=0, append=(driver.draft(1),)))
    assert refusal(commit(driver, 999)) == "ContentMismatch"
    assert isinstance(commit(driver, 1000), ObjectPut), "the refusal left the upload alone"


def test_a_hold_keeps_a_deleted_objects_bytes(driver: Driver) -> None:
    driver.put("k", driver.draft(1))
    manifest = found(driver).version.manifest
    hold = HoldManifest(upload=UPLOAD, manifest=manifest, ttl_ms=10 * MINUTE_MS)
    assert driver.run(hold) == Done()
    driver.run(DeleteVersion(bucket="bucket", key="k", number=1))
    driver.pass_time(8 * MINUTE_MS)
    assert driver.run(hold) == Done(), "the same id renews"
    driver.pass_time(8 * MINUTE_MS)
    driver.collect()
    read = driver.ask(ReadSegments(manifest=manifest, first=0))
    assert isinstance(read, SegmentsRead) and len(read.segments) == 1
    driver.run(AbortUpload(upload=UPLOAD))
    assert refusal(driver.ask(ReadSegments(manifest=manifest, first=0))) == "NoSuchVersion"
    assert refusal(driver.run(hold)) == "NoSuchVersion"
    assert counted(driver).dead_stripes == 1


def test_a_long_manifest_is_buried_and_reaped_piece_by_piece(driver: Driver) -> None:
    begin(driver)
    count = 1200
    drafts = [driver.draft(1 + number % 7) for number in range(count)]
    for first in range(0, count, 100):
        driver.run(Stage(upload=UPLOAD, position=first, append=tuple(drafts[first : first + 100])))
    assert isinstance(commit(driver, count * 1000), ObjectPut)
    manifest = found(driver).version.manifest
    driver.run(DeleteVersion(bucket="bucket", key="k", number=1))
    assert (counted(driver).graveyard, counted(driver).segments) == (1, count)
    assert refusal(driver.ask(ReadSegments(manifest=manifest, first=0))) == "NoSuchVersion"
    assert [driver.collect() for _ in range(4)] == [
        Collected(segments=500),
        Collected(segments=500),
        Collected(segments=200),
        Collected(),
    ]
    assert (counted(driver).graveyard, counted(driver).segments) == (0, 0)
    assert (counted(driver).stripes, counted(driver).dead_stripes) == (0, 7)


def test_a_stage_of_too_many_rows_is_refused(driver: Driver) -> None:
    begin(driver)
    drafts = tuple(driver.draft(number) for number in range(ROWS_MAX // 6 + 1))
    assert refusal(driver.run(Stage(upload=UPLOAD, position=0, append=drafts))) == "CommandTooLarge"


def test_unused_hits_are_bounded(driver: Driver) -> None:
    driver.put("owner", driver.draft(1))
    begin(driver)
    ask(driver, *([1] * RESERVED_MAX))
    more = Stage(upload=UPLOAD, position=0, ask=(question(1),))
    assert refusal(driver.run(more)) == "CommandTooLarge"


@pytest.mark.parametrize("work", ["stage", "collect", "end"])
def test_no_command_writes_more_than_its_rows(driver: Driver, work: str) -> None:
    """SAFETY rule 18, measured on SQLite's own count of changed rows."""
    for number in range(RESERVED_MAX):
        driver.put(f"k{number}", driver.draft(number))
    begin(driver, ttl_ms=30 * MINUTE_MS)
    ask(driver, *range(RESERVED_MAX))
    for number in range(RESERVED_MAX):
        driver.run(DeleteVersion(bucket="bucket", key=f"k{number}", number=1))
    writer: sqlite3.Connection = driver.catalog._writer
    before = writer.total_changes
    if work == "stage":
        drafts = tuple(driver.draft(9000 + number) for number in range(300))
        assert isinstance(driver.run(Stage(upload=UPLOAD, position=0, append=drafts)), Staged)
    elif work == "end":
        driver.run(AbortUpload(upload=UPLOAD))
    else:
        driver.run(AbortUpload(upload=UPLOAD))
        driver.pass_time(2 * GRACE_MS)
        before = writer.total_changes
        collected = driver.collect()
        assert isinstance(collected, Collected) and collected.stripes > 50
    assert writer.total_changes - before <= ROWS_MAX + 20, "and a few rows of the batch itself"


def test_a_step_of_collection_is_bounded_however_much_of_every_kind_is_due(driver: Driver) -> None:
    """SAFETY rule 18: kinds that fall due together share one bound, and none is starved."""
    for number in range(RESERVED_MAX):
        driver.put(f"k{number}", driver.draft(number))
    begin(driver, ttl_ms=30 * MINUTE_MS)
    ask(driver, *range(RESERVED_MAX))
    bury(driver, b"g" * 16, count=600)
    for number in range(RESERVED_MAX):
        driver.run(DeleteVersion(bucket="bucket", key=f"k{number}", number=1))
    for number in range(300):
        driver.put(f"twin{number}", driver.draft(7777))
        begin(driver, upload=number.to_bytes(16, "big"), ttl_ms=30 * MINUTE_MS)
        driver.open()
    driver.pass_time(2 * GRACE_MS)
    driver.run(DeleteVersion(bucket="bucket", key="buried", number=1))
    writer: sqlite3.Connection = driver.catalog._writer
    ended = Counter[str]()
    while True:
        before = writer.total_changes
        collected = driver.collect()
        assert isinstance(collected, Collected)
        assert writer.total_changes - before <= ROWS_MAX, collected
        if collected == Collected():
            break
        ended += Counter(msgspec.structs.asdict(collected))
    assert (ended["uploads"], ended["segments"]) == (301, 600)
    assert ended["sessions"] >= 300
    assert driver.catalog.contradictions() == []


def bury(driver: Driver, upload: bytes, *, count: int) -> None:
    """A long object whose removal is a matter of collection."""
    begin(driver, upload=upload, key="buried")
    for first in range(0, count, 100):
        drafts = tuple(driver.draft(20_000 + first + number) for number in range(100))
        driver.run(Stage(upload=upload, position=first, append=drafts))
    assert isinstance(commit(driver, count * 1000, upload=upload, key="buried"), ObjectPut)
