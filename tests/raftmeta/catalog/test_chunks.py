"""Uploads that outlive their request: plans, chunks, finishing exactly once (SAFETY rule 4)."""

import pytest

from osscore.model import ObjectAttributes
from raftmeta.catalog.apply_chunks import end_families
from raftmeta.catalog.apply_uploads import ROWS_MAX
from raftmeta.catalog.meta import Meta
from raftmeta.catalog.transaction import Transaction
from raftmeta.commands import (
    CHUNK_NUMBER_MAX,
    CHUNK_SEGMENTS_MAX,
    AbortUpload,
    BeginUpload,
    Body,
    Collected,
    DeleteVersion,
    Done,
    InlineBody,
    KeepChunk,
    LinkChunks,
    ObjectPut,
    PutObject,
    SealUpload,
    Stage,
    Staged,
    StripeQuestion,
    UploadBody,
    UploadPlan,
)
from raftmeta.queries import (
    Chunk,
    ChunksListed,
    CountCatalog,
    FindObject,
    FindUpload,
    Found,
    ListChunks,
    UploadFound,
)
from tests.raftmeta.catalog.harness import GRACE_MS, MINUTE_MS, Driver, refusal

PARENT = b"p" * 16
SHA = bytes(range(32))


def begin(driver: Driver, upload: bytes = PARENT, *, key: str = "k", **more: object) -> object:
    return driver.run(
        BeginUpload(upload=upload, bucket="bucket", key=key, ttl_ms=GRACE_MS, **more)  # type: ignore[arg-type]
    )


def chunk_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def stage(driver: Driver, upload: bytes, *contents: int, position: int = 0) -> object:
    drafts = tuple(driver.draft(content) for content in contents)
    return driver.run(Stage(upload=upload, position=position, append=drafts))


def keep(
    driver: Driver, number: int, *contents: int, at: int | None = None, **more: bool
) -> object:
    """A chunk staged under an id made of `number`, kept as number `at`."""
    begin(driver, chunk_id(number))
    stage(driver, chunk_id(number), *contents)
    return driver.run(
        KeepChunk(
            upload=chunk_id(number),
            parent=PARENT,
            number=number if at is None else at,
            size_bytes=1000 * len(contents),
            sha256=SHA,
            **more,
        )
    )


def held(driver: Driver) -> list[Chunk]:
    answer = driver.ask(ListChunks(upload=PARENT))
    assert isinstance(answer, ChunksListed), answer
    return list(answer.chunks)


def upload(driver: Driver, upload: bytes = PARENT) -> UploadFound:
    answer = driver.ask(FindUpload(upload=upload))
    assert isinstance(answer, UploadFound), answer
    return answer


def link(driver: Driver, *numbers: int, position: int = 0) -> object:
    return driver.run(
        LinkChunks(upload=PARENT, position=position, chunks=tuple(map(chunk_id, numbers)))
    )


def finish(driver: Driver, size_bytes: int, *, key: str = "k", body: Body | None = None) -> object:
    return driver.run(
        PutObject(
            bucket="bucket",
            key=key,
            attributes=ObjectAttributes(size_bytes=size_bytes),
            body=body or UploadBody(upload=PARENT),
            finishes=PARENT,
        )
    )


def contents(driver: Driver) -> list[tuple[int, int]]:
    found = driver.ask(FindObject(bucket="bucket", key="k"))
    assert isinstance(found, Found), found
    return [(segment.start, segment.stripe.stored_crc) for segment in found.segments]


def settle(driver: Driver) -> None:
    while driver.collect() != Collected():
        pass
    assert driver.catalog.contradictions() == []


def count(driver: Driver, table: str) -> int:
    return int(driver.catalog._writer.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])


# --- the plan ------------------------------------------------------------------------------


def test_an_upload_keeps_what_it_is_to_become(driver: Driver) -> None:
    plan = UploadPlan(owner="A", size_bytes=2000, sha256=SHA, user={"name": "ü"})
    begin(driver, plan=plan)
    stage(driver, PARENT, 1, 2)
    begin(driver, plan=UploadPlan(owner="B"))  # the same id again: no change
    found = upload(driver)
    assert (found.plan, found.bucket, found.key) == (plan, "bucket", "k")
    assert (found.staged_count, found.staged_bytes, found.sealed) == (2, 2000, False)
    assert found.expires_at_ms > found.created_at_ms > 0


def test_an_expired_upload_is_not_found_even_before_it_is_collected(driver: Driver) -> None:
    begin(driver)
    driver.pass_time(GRACE_MS + MINUTE_MS)
    assert refusal(driver.ask(FindUpload(upload=PARENT))) == "NoSuchUpload"
    assert refusal(driver.ask(ListChunks(upload=PARENT))) == "NoSuchUpload"


# --- sealing ---------------------------------------------------------------------------------


def test_a_sealed_upload_takes_nothing_more(driver: Driver) -> None:
    begin(driver)
    stage(driver, PARENT, 1)
    seal = SealUpload(upload=PARENT, size_bytes=1000, sha256=SHA, ttl_ms=5 * MINUTE_MS)
    assert driver.run(seal) == driver.run(seal) == Done()
    assert refusal(stage(driver, PARENT, 2, position=1)) == "UploadOutOfOrder"
    found = upload(driver)
    assert (found.sealed, found.plan.sha256, found.plan.size_bytes) == (True, SHA, 1000)
    assert found.expires_at_ms <= driver.now_ms + 5 * MINUTE_MS + 1000


def test_sealing_checks_the_size_and_happens_once(driver: Driver) -> None:
    begin(driver)
    stage(driver, PARENT, 1)
    wrong = SealUpload(upload=PARENT, size_bytes=999, sha256=SHA, ttl_ms=1000)
    assert refusal(driver.run(wrong)) == "ContentMismatch"
    driver.run(SealUpload(upload=PARENT, size_bytes=1000, sha256=SHA, ttl_ms=1000))
    other = SealUpload(upload=PARENT, size_bytes=1000, sha256=bytes(32), ttl_ms=1000)
    assert refusal(driver.run(other)) == "Conflict"
    assert refusal(
        driver.run(SealUpload(upload=bytes(16), size_bytes=0, sha256=SHA, ttl_ms=1))
    ) == ("NoSuchUpload")


# --- finishing exactly once --------------------------------------------------------------------


def test_finishing_again_answers_the_first_version(driver: Driver) -> None:
    begin(driver)
    stage(driver, PARENT, 1)
    first = finish(driver, 1000)
    assert isinstance(first, ObjectPut)
    # Other bytes, another frontend: what counts is which upload is finished.
    assert finish(driver, 1000) == finish(driver, 3, body=InlineBody(data=b"abc")) == first
    assert upload(driver).finished == first
    assert upload(driver).staged_bytes == 1000
    assert begin(driver) == Done() and upload(driver).finished == first
    settle(driver)


def test_finishing_by_another_body_ends_the_upload(driver: Driver) -> None:
    begin(driver)
    stage(driver, PARENT, 1, 2)
    assert isinstance(finish(driver, 3, body=InlineBody(data=b"abc")), ObjectPut)
    assert count(driver, "uploads") == 0 and count(driver, "segments") == 0
    settle(driver)


def test_a_failed_finish_leaves_the_upload(driver: Driver) -> None:
    begin(driver)
    stage(driver, PARENT, 1)
    assert refusal(finish(driver, 999)) == "ContentMismatch"
    assert upload(driver).finished is None
    assert refusal(finish(driver, 1000, key="other")) == "Conflict"
    assert isinstance(finish(driver, 1000), ObjectPut)
    assert refusal(finish(driver, 1000, key="other")) == "Conflict"


def test_what_was_finished_is_forgotten_in_time(driver: Driver) -> None:
    begin(driver)
    finish(driver, 0)
    driver.pass_time(GRACE_MS + MINUTE_MS)
    assert refusal(finish(driver, 0)) == "NoSuchUpload"
    settle(driver)
    assert count(driver, "finished_uploads") == 0


def test_a_finished_upload_can_begin_anew(driver: Driver) -> None:
    begin(driver)
    finish(driver, 0)
    assert begin(driver, restarts=True) == Done()
    assert upload(driver).finished is None
    stage(driver, PARENT, 1)
    begin(driver, restarts=True)  # under way: no change
    assert upload(driver).staged_bytes == 1000
    second = finish(driver, 1000)
    assert isinstance(second, ObjectPut) and second.number == 2


def test_an_unknown_upload_cannot_be_finished(driver: Driver) -> None:
    assert refusal(finish(driver, 1, body=InlineBody(data=b"x"))) == "NoSuchUpload"
    assert refusal(driver.ask(FindObject(bucket="bucket", key="k"))) == "NoSuchKey"


# --- chunks ------------------------------------------------------------------------------------


def test_chunks_in_any_order_become_one_object(driver: Driver) -> None:
    begin(driver)
    for number, pieces in ((2, (5,)), (0, (1, 2)), (10, ()), (1, (3, 4))):
        assert keep(driver, number, *pieces) == Done()
    assert [(c.number, c.size_bytes, c.sha256, c.segment_count) for c in held(driver)] == [
        (0, 2000, SHA, 2), (1, 2000, SHA, 2), (2, 1000, SHA, 1), (10, 0, SHA, 0),
    ]  # fmt: skip
    assert link(driver, 0, 1) == Staged(hits=(), staged_bytes=4000)
    assert driver.catalog.contradictions() == []
    assert link(driver, 2, 10, position=4) == Staged(hits=(), staged_bytes=5000)
    assert held(driver) == []
    assert isinstance(finish(driver, 5000), ObjectPut)
    assert contents(driver) == [(0, 1), (1000, 2), (2000, 3), (3000, 4), (4000, 5)]
    settle(driver)
    assert count(driver, "uploads") == 0


def test_a_chunk_is_held_once(driver: Driver) -> None:
    begin(driver)
    keep(driver, 0, 1)
    assert refusal(keep(driver, 7, 2, at=0)) == "ChunkAlreadyHeld"
    again = KeepChunk(upload=chunk_id(0), parent=PARENT, number=0, size_bytes=1000, sha256=SHA)
    assert driver.run(again) == Done()  # the same chunk, told twice
    assert keep(driver, 8, 3, at=0, replaces=True) == Done()
    assert [chunk.upload for chunk in held(driver)] == [chunk_id(8)]
    driver.run(AbortUpload(upload=chunk_id(7)))
    link(driver, 8)
    finish(driver, 1000)
    assert contents(driver) == [(0, 3)]
    settle(driver)


@pytest.mark.parametrize("number", [-1, CHUNK_NUMBER_MAX + 1, 1 << 63])
def test_numbers_out_of_bounds_are_refused(driver: Driver, number: int) -> None:
    begin(driver)
    assert refusal(keep(driver, 5, 1, at=number)) == "InvalidArgument"
    assert held(driver) == []


def test_a_chunk_must_fit_its_upload(driver: Driver) -> None:
    begin(driver)
    begin(driver, chunk_id(1), key="other")
    kept = KeepChunk(upload=chunk_id(1), parent=PARENT, number=1, size_bytes=0, sha256=SHA)
    assert refusal(driver.run(kept)) == "InvalidArgument"
    begin(driver, chunk_id(2))
    short = KeepChunk(upload=chunk_id(2), parent=PARENT, number=1, size_bytes=1, sha256=SHA)
    assert refusal(driver.run(short)) == "ContentMismatch"
    itself = KeepChunk(upload=PARENT, parent=PARENT, number=1, size_bytes=0, sha256=SHA)
    assert refusal(driver.run(itself)) == "InvalidArgument"
    nobody = KeepChunk(upload=bytes(16), parent=PARENT, number=1, size_bytes=0, sha256=SHA)
    assert refusal(driver.run(nobody)) == "NoSuchUpload"
    driver.run(AbortUpload(upload=PARENT))
    assert refusal(keep(driver, 3, 1)) == "NoSuchUpload"


def test_no_chunk_is_kept_once_linking_has_begun(driver: Driver) -> None:
    begin(driver)
    keep(driver, 0, 1)
    keep(driver, 1, 2)
    link(driver, 0)
    assert refusal(keep(driver, 2, 3)) == "Conflict"
    assert refusal(keep(driver, 3, 3, at=1, replaces=True)) == "Conflict"
    assert refusal(link(driver, 1, position=0)) == "UploadOutOfOrder"
    assert refusal(link(driver, 0, position=1)) == "NoSuchUpload"
    assert link(driver, 1, position=1) == Staged(hits=(), staged_bytes=2000)


def test_a_chunk_that_is_held_is_not_given_up_by_itself(driver: Driver) -> None:
    begin(driver)
    keep(driver, 0, 1)
    assert driver.run(AbortUpload(upload=chunk_id(0))) == Done()
    assert [chunk.number for chunk in held(driver)] == [0]
    driver.run(AbortUpload(upload=PARENT))
    settle(driver)
    assert count(driver, "uploads") == 0


def test_a_chunk_named_twice_is_refused_and_stays(driver: Driver) -> None:
    begin(driver)
    keep(driver, 0, 1)
    keep(driver, 1)
    for numbers in ((0, 0), (1, 1), (0, 1, 0)):
        assert refusal(link(driver, *numbers)) == "InvalidArgument"
    assert [chunk.number for chunk in held(driver)] == [0, 1]
    settle(driver)


def test_a_kept_chunk_holds_no_references_for_stripes_to_come(driver: Driver) -> None:
    begin(driver)
    begin(driver, b"other" + bytes(11))
    stage(driver, b"other" + bytes(11), 1)
    begin(driver, chunk_id(0))
    draft = driver.draft(1)
    question = StripeQuestion(
        profile=draft.profile,
        domain=draft.domain,
        digest=draft.digest,
        plain_bytes=draft.plain_bytes,
    )
    asked = driver.run(Stage(upload=chunk_id(0), position=0, ask=(question,) * 40))
    assert isinstance(asked, Staged) and all(asked.hits)
    assert count(driver, "upload_refs") == 1
    kept = KeepChunk(upload=chunk_id(0), parent=PARENT, number=0, size_bytes=0, sha256=SHA)
    assert driver.run(kept) == Done()
    # Else the end of many chunks would be more rows than one command may write.
    assert count(driver, "upload_refs") == 0
    settle(driver)


def test_another_uploads_chunk_is_not_linked(driver: Driver) -> None:
    other = b"o" * 16
    begin(driver)
    begin(driver, other)
    keep(driver, 0, 1)
    foreign = LinkChunks(upload=other, position=0, chunks=(chunk_id(0),))
    assert refusal(driver.run(foreign)) == "NoSuchUpload"


def test_chunks_live_as_long_as_their_upload_and_not_longer(driver: Driver) -> None:
    begin(driver)
    keep(driver, 0, 1)
    for number in (1, 2):  # each chunk is a sign of life
        driver.pass_time(GRACE_MS - MINUTE_MS)
        keep(driver, number, 1 + number)
        driver.collect()
    assert [chunk.number for chunk in held(driver)] == [0, 1, 2]
    driver.pass_time(GRACE_MS + MINUTE_MS)
    settle(driver)
    assert [count(driver, name) for name in ("uploads", "ended_families", "segments")] == [0, 0, 0]


def test_an_upload_begun_anew_does_not_inherit_chunks(driver: Driver) -> None:
    begin(driver)
    keep(driver, 0, 1)
    driver.run(AbortUpload(upload=PARENT))
    begin(driver)
    assert held(driver) == []
    keep(driver, 9, 2, at=0)
    settle(driver)
    assert [chunk.upload for chunk in held(driver)] == [chunk_id(9)]


def test_chunks_left_over_end_with_the_finish(driver: Driver) -> None:
    begin(driver)
    for number in range(5):
        keep(driver, number, number + 1)
    assert isinstance(finish(driver, 3, body=InlineBody(data=b"abc")), ObjectPut)
    settle(driver)
    assert count(driver, "uploads") == count(driver, "ended_families") == 0


def test_linked_bytes_live_on_with_the_object_alone(driver: Driver) -> None:
    begin(driver)
    keep(driver, 0, 1)
    link(driver, 0)
    finish(driver, 1000)
    settle(driver)
    driver.run(DeleteVersion(bucket="bucket", key="k", number=1))
    driver.pass_time(GRACE_MS + 5 * MINUTE_MS)
    settle(driver)
    assert count(driver, "stripes") == 0


# --- bounds (SAFETY rule 18) ---------------------------------------------------------------------


def test_linking_too_much_at_once_changes_nothing(driver: Driver) -> None:
    begin(driver)
    for number in range(2):
        begin(driver, chunk_id(number))
        for position in range(0, CHUNK_SEGMENTS_MAX, 100):
            stage(driver, chunk_id(number), *range(1, 101), position=position)
        size_bytes = 1000 * CHUNK_SEGMENTS_MAX
        driver.run(
            KeepChunk(
                upload=chunk_id(number),
                parent=PARENT,
                number=number,
                size_bytes=size_bytes,
                sha256=SHA,
            )
        )
    assert refusal(link(driver, 0, 1)) == "CommandTooLarge"
    assert upload(driver).staged_count == 0 and len(held(driver)) == 2
    before = driver.catalog._writer.total_changes
    assert isinstance(link(driver, 0), Staged)
    assert driver.catalog._writer.total_changes - before <= ROWS_MAX
    assert driver.catalog.contradictions() == []


def test_a_chunk_too_long_to_be_linked_is_refused(driver: Driver) -> None:
    begin(driver)
    begin(driver, chunk_id(0))
    total = CHUNK_SEGMENTS_MAX + 1
    for position in range(0, total, 100):
        stage(driver, chunk_id(0), *range(1, min(101, total - position + 1)), position=position)
    kept = KeepChunk(
        upload=chunk_id(0), parent=PARENT, number=0, size_bytes=1000 * total, sha256=SHA
    )
    assert refusal(driver.run(kept)) == "EntityTooLarge"


def test_very_many_chunks_end_in_bounded_steps(driver: Driver) -> None:
    begin(driver)
    for number in range(1500):
        keep(driver, number)
    driver.run(AbortUpload(upload=PARENT))
    steps = 0
    while True:
        before = driver.catalog._writer.total_changes
        done = driver.collect()
        assert driver.catalog._writer.total_changes - before <= ROWS_MAX
        if done == Collected():
            break
        steps += 1
    assert steps > 1 and count(driver, "uploads") == 0
    assert driver.ask(CountCatalog()).uploads == 0  # type: ignore[union-attr]


def test_a_step_of_ending_stays_within_its_rows(driver: Driver) -> None:
    begin(driver)
    for number in range(3):
        keep(driver, number)
    driver.run(AbortUpload(upload=PARENT))
    db = driver.catalog._writer
    db.execute("BEGIN")
    tx = Transaction(db=db, meta=Meta(db), index=driver.index, time_ms=driver.now_ms)
    assert end_families(tx, rows_max=6) == (1, 4)
    assert end_families(tx, rows_max=1) == (1, 4)  # one always goes on
    db.execute("ROLLBACK")
