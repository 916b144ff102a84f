"""What encoding anew asks: which stripes are to be, what is open, and how far the jobs are."""

from typing import Any

from osscore.model import CodingKind, Profile
from raftmeta.catalog import sharing
from raftmeta.catalog.query_objects import STRIPE_COLUMNS, stripe_of
from raftmeta.catalog.reading import Reading
from raftmeta.reencoding import (
    REPLICAS,
    RUNNING,
    FindReencodable,
    ListReencodes,
    OpenReencode,
    ReadReencodes,
    Reencodable,
    ReencodableFound,
    ReencodeJob,
    ReencodesListed,
    ReencodesRead,
    ReencodeTask,
)

LIMIT_MAX = 1000
VISITED_MAX = 5000
"""Stripes looked at for a page."""
JUDGED_MAX = 1000
"""Of these, those whose objects are looked for."""
_TASKS_MAX = 256
_COLUMN_COUNT = len(STRIPE_COLUMNS.split(","))

_READ = (
    f"SELECT {STRIPE_COLUMNS}, t.task, t.profile_data, t.profile_parity, s.domain, s.digest"
    " FROM reencode_tasks t JOIN stripes s ON s.row = t.stripe_row"
    " WHERE t.worker = ? ORDER BY t.task LIMIT ?"
)
_JOBS = (
    "SELECT j.job, b.name, j.profile_data, j.profile_parity, j.state, j.begun_at_ms,"
    " j.ended_at_ms, j.stripes, j.size_bytes, j.kept_stripes"
    " FROM reencode_jobs j JOIN buckets b ON b.bucket = j.bucket ORDER BY b.name"
)
_TASKS = (
    "SELECT t.task, t.stripe_row, t.worker, t.job, t.opened_at_ms, s.plain_bytes"
    " FROM reencode_tasks t JOIN stripes s ON s.row = t.stripe_row ORDER BY t.task"
)
_REPLICAS = (
    "SELECT s.row, s.plain_bytes FROM stripes s INDEXED BY stripes_as_replicas"
    " WHERE s.coding_kind = 1 AND s.dead_since_ms IS NULL AND s.row > ? ORDER BY s.row LIMIT ?"
)
_STRIPES = (
    "SELECT row, plain_bytes, profile_data, profile_parity, coding_kind FROM stripes"
    " WHERE row > ? AND dead_since_ms IS NULL ORDER BY row LIMIT ?"
)


def read_reencodes(reading: Reading, query: ReadReencodes) -> ReencodesRead:
    """What one daemon has to encode, oldest first."""
    limit = max(1, min(query.limit, _TASKS_MAX))
    tasks = []
    for row in reading.db.execute(_READ, (query.worker, limit)):
        task, data_count, parity_count, domain, digest = row[_COLUMN_COUNT:]
        stripe = stripe_of(row[:_COLUMN_COUNT])
        tasks.append(OpenReencode(task, Profile(data_count, parity_count), domain, digest, stripe))
    return ReencodesRead(tasks=tuple(tasks))


def list_reencodes(reading: Reading, _: ListReencodes) -> ReencodesListed:
    """Jobs and open tasks."""
    return ReencodesListed(
        jobs=tuple(_job(row) for row in reading.db.execute(_JOBS)),
        tasks=tuple(ReencodeTask(*row) for row in reading.db.execute(_TASKS)),
        total_stripes=reading.number("reencoded_stripes"),
        total_bytes=reading.number("reencoded_bytes"),
    )


def find_reencodable(reading: Reading, query: FindReencodable) -> ReencodableFound:
    """One page of the stripes that are to be encoded anew."""
    limit = max(1, min(query.limit, LIMIT_MAX))
    if query.job == REPLICAS:
        rows = reading.db.execute(_REPLICAS, (query.after_row, limit))
        found = tuple(Reencodable(*row) for row in rows)
        return ReencodableFound(stripes=found, next_row=found[-1].row if len(found) == limit else 0)
    job = reading.db.execute(
        "SELECT bucket, profile_data, profile_parity FROM reencode_jobs"
        " WHERE job = ? AND state = ?",
        (query.job, RUNNING),
    ).fetchone()
    if job is None:
        return ReencodableFound(stripes=())
    return _of_job(reading, query.after_row, limit, job[0], Profile(*job[1:]))


def _job(row: tuple[Any, ...]) -> ReencodeJob:
    job, bucket, data_count, parity_count, state, begun_at_ms, ended_at_ms = row[:7]
    stripes, size_bytes, kept_stripes = row[7:]
    return ReencodeJob(
        job=job,
        bucket=bucket,
        profile=Profile(data_count, parity_count),
        state=state,
        begun_at_ms=begun_at_ms,
        ended_at_ms=ended_at_ms,
        stripes=stripes,
        size_bytes=size_bytes,
        kept_stripes=kept_stripes,
    )


def _of_job(
    reading: Reading, after_row: int, limit: int, bucket: int, profile: Profile
) -> ReencodableFound:
    found: list[Reencodable] = []
    visited = judged = kept = last = 0
    for row, size_bytes, data_count, parity_count, kind in reading.db.execute(
        _STRIPES, (after_row, VISITED_MAX)
    ):
        visited, last = visited + 1, row
        has = Profile(data_count, parity_count)
        if has == profile and kind == CodingKind.REED_SOLOMON:
            continue
        judged += 1
        if sharing.belongs(reading.db, row, bucket):
            is_kept = has.asks_more_than(profile) and sharing.others_ask_for_more(
                reading.db, row, profile
            )
            kept += is_kept
            if not is_kept:
                found.append(Reencodable(row, size_bytes))
        if len(found) == limit or judged == JUDGED_MAX:
            break
    is_end = visited < VISITED_MAX and len(found) < limit and judged < JUDGED_MAX
    return ReencodableFound(stripes=tuple(found), kept_stripes=kept, next_row=0 if is_end else last)
