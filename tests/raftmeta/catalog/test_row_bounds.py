"""What admission believes a command writes is never less than what it writes.

Batches are made up by these bounds before they are proposed (SAFETY rule 18): a command that
writes more than it says makes every replica stand still while it is applied.
"""

import sqlite3
from collections.abc import Callable

import msgspec
import pytest

from osscore.model import ObjectAttributes, Profile, ShardIdentity, Slot, replicas
from raftmeta.admission import ROWS_MAX, rows_of
from raftmeta.catalog.apply_credentials import REVOKED_AT_ONCE, SIGNING_KEYS_MAX
from raftmeta.catalog.apply_lifecycle import RETIMED_AT_ONCE
from raftmeta.catalog.apply_objects import MARKERS_AT_ONCE
from raftmeta.catalog.apply_uploads import RESERVED_MAX
from raftmeta.catalog.manifests import SEGMENTS_AT_ONCE
from raftmeta.catalog.removed import RUNS_KEPT
from raftmeta.commands import (
    AbortUpload,
    BeginUpload,
    DeleteObject,
    DeleteVersion,
    Done,
    HoldManifest,
    PruneVersions,
    PutObject,
    Refused,
    Stage,
    StripeQuestion,
    StripesBody,
    TrashDone,
    Undelete,
    UploadBody,
)
from raftmeta.credentials import RevokeTokens, RotateSigningKey
from raftmeta.entries import AnyCommand
from raftmeta.lifecycle import ExpireObject, ExpireVersions, SetLifecycle
from raftmeta.moving import OpenTasks, TaskDraft, TasksOpened
from raftmeta.queries import FindObject, Found, ReadTrash, TrashRead
from raftmeta.reencoding import TASKS_AT_ONCE as REENCODES_AT_ONCE
from raftmeta.reencoding import OpenReencodes, Reencode, ReencodeDraft
from raftmeta.rejoining import ABSENT_AT_ONCE, BeginRejoin, CompareSlots
from raftmeta.timetravel import (
    RestoreObject,
)
from tests.raftmeta.catalog import reencoding
from tests.raftmeta.catalog.harness import GRACE_MS, TWO_ONE, Driver, disk_uuid, register_command

UPLOAD = b"u" * 16
OF_A_BATCH = 16
"""Rows of the totals and the applied index, written once a batch."""


def begin(driver: Driver, upload: bytes = UPLOAD) -> None:
    driver.run(BeginUpload(upload=upload, bucket="bucket", key="k", ttl_ms=GRACE_MS))


def stage(driver: Driver, count: int) -> None:
    drafts = tuple(driver.draft(1000 + number) for number in range(count))
    driver.run(Stage(upload=UPLOAD, position=0, append=drafts))


def reserve(driver: Driver) -> None:
    questions = []
    for number in range(RESERVED_MAX):
        driver.put(f"owner{number}", driver.draft(number))
        digest = number.to_bytes(32, "big")
        questions.append(
            StripeQuestion(profile=TWO_ONE, domain=b"", digest=digest, plain_bytes=1000)
        )
    driver.run(Stage(upload=UPLOAD, position=SEGMENTS_AT_ONCE, ask=tuple(questions)))
    for number in range(RESERVED_MAX):
        driver.run(DeleteVersion(bucket="bucket", key=f"owner{number}", number=1))


def commit(stripe_count: int) -> PutObject:
    attributes = ObjectAttributes(size_bytes=1000 * stripe_count)
    return PutObject(
        bucket="bucket", key="k", attributes=attributes, body=UploadBody(upload=UPLOAD)
    )


def of_a_put(driver: Driver) -> AnyCommand:
    drafts = (driver.draft(1), driver.draft(2))
    attributes = ObjectAttributes(size_bytes=2000)
    return PutObject(
        bucket="bucket", key="k", attributes=attributes, body=StripesBody(stripes=drafts)
    )


def of_a_duplicate(driver: Driver) -> AnyCommand:
    driver.put("a", driver.draft(1), driver.draft(2))
    return of_a_put(driver)


def of_a_window(driver: Driver) -> AnyCommand:
    begin(driver)
    drafts = tuple(driver.draft(number) for number in range(150))
    return Stage(upload=UPLOAD, position=0, append=drafts)


def of_a_commit(driver: Driver) -> AnyCommand:
    begin(driver)
    stage(driver, SEGMENTS_AT_ONCE)
    reserve(driver)
    return commit(SEGMENTS_AT_ONCE)


def of_an_abort(driver: Driver) -> AnyCommand:
    of_a_commit(driver)
    return AbortUpload(upload=UPLOAD)


def of_a_removal(driver: Driver) -> AnyCommand:
    begin(driver)
    stage(driver, SEGMENTS_AT_ONCE)
    driver.run(commit(SEGMENTS_AT_ONCE))
    return DeleteVersion(bucket="bucket", key="k", number=1)


def of_a_last_hold(driver: Driver) -> AnyCommand:
    removal = of_a_removal(driver)
    found = driver.ask(FindObject(bucket="bucket", key="k"))
    assert isinstance(found, Found)
    hold = b"h" * 16
    driver.run(HoldManifest(upload=hold, manifest=found.version.manifest, ttl_ms=GRACE_MS))
    driver.run(removal)
    return AbortUpload(upload=hold)


def of_many_markers(driver: Driver) -> AnyCommand:
    driver.put_inline("k", b"x")
    for _ in range(MARKERS_AT_ONCE + 1):
        driver.run(DeleteObject(bucket="bucket", key="k"))
    return Undelete(bucket="bucket", key="k")


def of_a_full_memory(driver: Driver) -> AnyCommand:
    driver.put_inline("k", b"x")
    for _ in range(RUNS_KEPT + 2):
        driver.put_inline("k", b"x")
        driver.run(DeleteObject(bucket="bucket", key="k"))
        driver.run(Undelete(bucket="bucket", key="k"))
    for _ in range(7):
        driver.run(DeleteObject(bucket="bucket", key="k"))
    return Undelete(bucket="bucket", key="k", markers_max=5)


def of_a_restore(driver: Driver) -> AnyCommand:
    driver.put("k", driver.draft(1), driver.draft(2))
    at_ms = driver.catalog.head.catalog_time_ms
    driver.put_inline("k", b"x")
    return RestoreObject(bucket="bucket", key="k", at_ms=at_ms, began_ms=1 << 45)


def of_many_versions(driver: Driver) -> AnyCommand:
    for number in range(400):
        driver.put("k", driver.draft(2 * number), driver.draft(2 * number + 1))
    of_a_removal(driver)
    driver.put_inline("k", b"x")
    return PruneVersions(bucket="bucket", key="k", keep=1, rows_max=10_000)


def of_a_long_version(driver: Driver) -> AnyCommand:
    of_a_removal(driver)
    driver.put_inline("k", b"x")
    return PruneVersions(bucket="bucket", key="k", keep=1, rows_max=1)


def of_expired_versions(driver: Driver) -> AnyCommand:
    of_many_versions(driver)
    driver.run(SetLifecycle(bucket="bucket", expire_noncurrent_after_ms=1))
    return ExpireVersions(bucket="bucket", rows_max=10_000)


def of_bare_markers(driver: Driver) -> AnyCommand:
    driver.put_inline("k", b"x")
    for _ in range(400):
        driver.run(DeleteObject(bucket="bucket", key="k"))
    driver.run(DeleteVersion(bucket="bucket", key="k", number=1))
    driver.run(SetLifecycle(bucket="bucket", expire_after_ms=1))
    return ExpireVersions(bucket="bucket", rows_max=10_000)


def of_an_expired_object(driver: Driver) -> AnyCommand:
    driver.put_inline("k", b"x")
    driver.run(SetLifecycle(bucket="bucket", expire_after_ms=1))
    return ExpireObject(bucket="bucket", key="k")


def of_retimed_uploads(driver: Driver) -> AnyCommand:
    for number in range(RETIMED_AT_ONCE + 10):
        upload = number.to_bytes(16, "big")
        driver.run(
            BeginUpload(upload=upload, bucket="bucket", key="k", ttl_ms=GRACE_MS, waits=True)
        )
    return SetLifecycle(bucket="bucket", abort_uploads_after_ms=5 * GRACE_MS)


def of_emptied_trash(driver: Driver) -> AnyCommand:
    for number in range(100):
        driver.put(f"k{number}", driver.draft(1))
    trash = driver.ask(ReadTrash(disk=1))
    assert isinstance(trash, TrashRead) and len(trash.rows) == 99
    return TrashDone(disk=1, rows=tuple(row.row for row in trash.rows))


def of_revoked_tokens(driver: Driver) -> AnyCommand:
    return RevokeTokens(jtis=tuple(f"j{number}" for number in range(REVOKED_AT_ONCE)))


def of_a_rotation(driver: Driver) -> AnyCommand:
    for number in range(SIGNING_KEYS_MAX):
        driver.run(RotateSigningKey(kid=f"k{number}", secret_sealed=b"s", overlap_ms=1000))
    return RotateSigningKey(kid="k", secret_sealed=b"s")


def of_a_wide_swap(driver: Driver) -> AnyCommand:
    """Copies on every node, each with a task, become as many shards as there can be."""
    for number in range(4, 25):
        driver.run(register_command(number))
    nodes = tuple(range(1, 25))
    copies = driver.draft(1, copies=True)
    copies = msgspec.structs.replace(
        copies,
        coding=replicas(24),
        shard_crcs=nodes,
        slots=tuple(Slot(index, 0, disk) for index, disk in enumerate(nodes)),
    )
    driver.put("k", copies)
    stripe = reencoding.stripe_of(driver)
    moves = tuple(TaskDraft(stripe.row, n - 1, 0, n, n, "repair") for n in nodes)
    assert driver.run(OpenTasks(tasks=moves)) == TasksOpened(opened=24)
    widest = Profile(16, 8)
    reencoding.opened(driver, stripe, widest, reencoding.begin(driver, widest))
    (task,) = reencoding.tasks_of(driver)
    return Reencode(task=task.task, draft=reencoding.anew(driver, task, nodes))


def of_many_reencodes(driver: Driver) -> AnyCommand:
    job = reencoding.begin(driver, TWO_ONE)
    for number in range(REENCODES_AT_ONCE):
        driver.put(f"k{number}", driver.draft(number, copies=True))
    found = reencoding.found(driver, job).stripes
    stripes = [reencoding.stripe_of(driver, f"k{number}") for number in range(len(found))]
    assert len(stripes) == REENCODES_AT_ONCE
    return OpenReencodes(
        tasks=tuple(ReencodeDraft(s.row, s.stripe, TWO_ONE, 1, job) for s in stripes)
    )


def of_a_page_of_absent_shards(driver: Driver) -> AnyCommand:
    driver.run(register_command(1, epoch=5))
    generation = driver.catalog.head.generation
    drafts = [driver.draft(number) for number in range(ABSENT_AT_ONCE)]
    for number, draft in enumerate(drafts):
        driver.put(f"k{number}", draft)
    begun = BeginRejoin(
        uuid=disk_uuid(1),
        node="blob-1",
        url="http://blob-1:9201",
        epoch=3,
        claim=UPLOAD,
        generation=generation,
    )
    assert driver.run(begun) == Done()
    return CompareSlots(
        disk=1,
        claim=UPLOAD,
        generation=generation,
        after_row=0,
        through_row=1 << 40,
        slot_count=len(drafts),
        absent=tuple(ShardIdentity(draft.stripe, 0, 0) for draft in drafts),
    )


@pytest.mark.parametrize(
    "prepare",
    [
        of_a_page_of_absent_shards,
        of_a_wide_swap,
        of_many_reencodes,
        of_a_put,
        of_a_duplicate,
        of_a_window,
        of_a_commit,
        of_an_abort,
        of_a_removal,
        of_a_last_hold,
        of_many_markers,
        of_a_full_memory,
        of_a_restore,
        of_many_versions,
        of_a_long_version,
        of_expired_versions,
        of_bare_markers,
        of_an_expired_object,
        of_retimed_uploads,
        of_emptied_trash,
        of_revoked_tokens,
        of_a_rotation,
    ],
)
def test_a_command_writes_no_more_rows_than_it_was_admitted_for(
    driver: Driver, prepare: Callable[[Driver], AnyCommand]
) -> None:
    command = prepare(driver)
    writer: sqlite3.Connection = driver.catalog._writer
    before = writer.total_changes
    assert not isinstance(driver.run(command), Refused)
    written = writer.total_changes - before
    assert written <= rows_of(command) + OF_A_BATCH
    assert rows_of(command) <= ROWS_MAX
