"""Stripes encoded anew: below `/v1/maintenance/reencode`."""

from frontend.flows import reencode
from frontend.flows.reencode import JobProgress
from frontend.rest.handler import NativeHandler
from frontend.serving import query
from osscore.errors import InvalidArgument
from osscore.times import iso_time
from raftmeta.access import INFO
from raftmeta.healing import ReencodeProgress


class ReencodeHandler(NativeHandler):
    """`/v1/maintenance/reencode`: what is encoded anew and how it gets on."""

    async def get(self) -> None:
        """`?bucket=`: of that alone."""
        await self.allow(INFO)
        found = await reencode.progress(self.store, query.text(self.arguments, "bucket"))
        self.reply_json(
            {
                "paused": found.is_paused,
                "tasks": found.task_count,
                "bytes_per_s": found.bytes_per_s,
                "done": {"stripes": found.done_stripes, "bytes": found.done_bytes},
                "replicas": _left(found.replicas),
                "jobs": [_shown(job) for job in found.jobs],
            }
        )


class ReencodeCancelHandler(NativeHandler):
    """`/v1/maintenance/reencode/cancel`."""

    async def post(self) -> None:
        """`?bucket=`: what is done stays; 409 if nothing of it is being encoded anew."""
        bucket = query.text(self.arguments, "bucket")
        if not bucket:
            raise InvalidArgument("Name a bucket: ?bucket=photos.")
        note = await self.administer("reencode.cancel", bucket, bucket=bucket)
        await reencode.cancel(self.store, bucket, audit=note)
        self.reply_json({"bucket": bucket, "cancelled": True})


def _shown(found: JobProgress) -> dict[str, object]:
    job = found.job
    return {
        "bucket": job.bucket,
        "profile": str(job.profile),
        "state": job.state,
        "begun": iso_time(job.begun_at_ms),
        "ended": iso_time(job.ended_at_ms) if job.ended_at_ms else None,
        "done": {"stripes": job.stripes, "bytes": job.size_bytes},
        "left": None if found.left is None else _left(found.left),
        "kept_stripes": job.kept_stripes if found.left is None else found.left.kept_stripes,
        "eta_s": found.eta_s,
    }


def _left(left: ReencodeProgress) -> dict[str, object]:
    return {
        "surveyed": left.is_surveyed,
        "stripes": left.left_stripes,
        "bytes": left.left_bytes,
        "waits": left.waits or None,
    }
