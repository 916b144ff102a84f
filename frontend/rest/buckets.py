"""Buckets: made, shown, listed, removed."""

from frontend.access import ADMIN, INFO
from frontend.flows.buckets import create_bucket, delete_bucket, find_bucket, list_buckets
from frontend.rest import paths, query
from frontend.rest.handler import NativeHandler
from frontend.rest.objects import PROFILE_HEADER
from frontend.rest.times import iso_time
from osscore.model import Profile
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
        await self.allow(ADMIN, bucket)
        # In a query string a bare '+' reads as a space.
        asked = query.text(self.arguments, "profile").strip().replace(" ", "+")
        profile = asked or self.request.headers.get(PROFILE_HEADER, "")
        await create_bucket(self.store, bucket, Profile.parse(profile) if profile else None)
        self.set_status(201)
        self.set_header("Location", f"/buckets/{bucket}")
        self.reply_json({"name": bucket, "profile": profile or None}, status=201)

    async def get(self) -> None:
        """What is known of it."""
        bucket = paths.bucket_of(self.request.path)
        await self.allow(INFO, bucket)
        self.reply_json(_shown(await find_bucket(self.store, bucket)))

    async def delete(self) -> None:
        """Remove it; it must be empty, old versions included."""
        bucket = paths.bucket_of(self.request.path)
        await self.allow(ADMIN, bucket)
        await delete_bucket(self.store, bucket)
        self.set_status(204)


def _shown(bucket: BucketInfo) -> dict[str, object]:
    return {
        "name": bucket.name,
        "created": iso_time(bucket.created_at_ms),
        "profile": str(bucket.profile) if bucket.profile else None,
    }
