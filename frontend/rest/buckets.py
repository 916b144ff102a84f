"""Buckets: made, shown, listed, removed."""

from typing import Final

from frontend.flows.buckets import (
    create_bucket,
    delete_bucket,
    find_bucket,
    list_buckets,
    set_quota_bytes,
    set_quota_versions,
)
from frontend.flows.lifetimes import abort_uploads_after, expire_after, expire_noncurrent_after
from frontend.flows.prune import keep_versions
from frontend.flows.reencode import set_profile
from frontend.rest.handler import NativeHandler
from frontend.serving import query
from osscore import paths
from osscore.errors import InvalidArgument
from osscore.model import Profile
from osscore.times import iso_time
from raftmeta.access import INFO
from raftmeta.queries import BucketInfo


class BucketsHandler(NativeHandler):
    """`/buckets`."""

    async def get(self) -> None:
        """All buckets this key may see, by name."""
        grant = await self.allow(INFO)
        found = [b for b in await list_buckets(self.store) if grant.may(INFO, b.name)]
        self.reply_json({"buckets": [_shown(bucket) for bucket in found]})


class BucketHandler(NativeHandler):
    """`/buckets/BUCKET`."""

    async def put(self) -> None:
        """Make it; `?profile=k+m` or the profile header gives its redundancy."""
        bucket = paths.bucket_of(self.request.path)
        profile = self.asked_profile()
        said = str(profile) if profile else ""
        note = await self.administer("bucket.create", bucket, said, bucket=bucket)
        await create_bucket(self.store, bucket, profile, audit=note)
        self.set_status(201)
        self.set_header("Location", f"/buckets/{bucket}")
        self.reply_json({"name": bucket, "profile": said or None}, status=201)

    async def get(self) -> None:
        """What is known of it."""
        bucket = paths.bucket_of(self.request.path)
        await self.allow(INFO, bucket)
        self.reply_json(_shown(await find_bucket(self.store, bucket)))

    async def patch(self) -> None:
        """Change how many versions of each object are kept and for how long, what it may hold
        (0 for any), and the profile of what is written, with `reencode=1` also of what is there."""
        bucket = paths.bucket_of(self.request.path)
        profile, reencodes = self.asked_profile(), query.flag(self.arguments, "reencode")
        if reencodes and profile is None:
            raise InvalidArgument("Say for which profile: ?profile=4%2B2&reencode=1.")
        asked = {name: query.number(self.arguments, name) for name in _SETTINGS}
        changes = {name: value for name, value in asked.items() if value is not None}
        if not changes and profile is None:
            raise InvalidArgument(f"Say what to change: profile, {', '.join(_SETTINGS)}.")
        for name, value in changes.items():
            note = await self.administer("bucket.change", bucket, f"{name}={value}", bucket=bucket)
            await _SETTINGS[name](self.store, bucket, value, audit=note)
        if profile is not None:
            await self._set_profile(bucket, profile, reencodes=reencodes)
        self.reply_json(_shown(await find_bucket(self.store, bucket)))

    async def _set_profile(self, bucket: str, profile: Profile, *, reencodes: bool) -> None:
        said = f"profile={profile}" + (" reencode" if reencodes else "")
        note = await self.administer("bucket.change", bucket, said, bucket=bucket)
        await set_profile(self.store, bucket, profile, reencodes=reencodes, audit=note)

    async def delete(self) -> None:
        """Remove it; it must be empty, old versions included."""
        bucket = paths.bucket_of(self.request.path)
        note = await self.administer("bucket.remove", bucket, bucket=bucket)
        await delete_bucket(self.store, bucket, audit=note)
        self.set_status(204)


_SETTINGS: Final = {
    "keep_versions": keep_versions,
    "quota_bytes": set_quota_bytes,
    "quota_versions": set_quota_versions,
    "expire_after_s": expire_after,
    "expire_noncurrent_after_s": expire_noncurrent_after,
    "abort_uploads_after_s": abort_uploads_after,
}


def _shown(bucket: BucketInfo) -> dict[str, object]:
    return {
        "name": bucket.name,
        "created": iso_time(bucket.created_at_ms),
        "profile": str(bucket.profile) if bucket.profile else None,
        "keep_versions": bucket.keep_versions,
        "used_bytes": bucket.used_bytes,
        "used_versions": bucket.used_versions,
        "quota_bytes": bucket.quota_bytes,
        "quota_versions": bucket.quota_versions,
        "expire_after_s": bucket.lifecycle.expire_after_ms // 1000,
        "expire_noncurrent_after_s": bucket.lifecycle.expire_noncurrent_after_ms // 1000,
        "abort_uploads_after_s": bucket.lifecycle.abort_uploads_after_ms // 1000,
    }
