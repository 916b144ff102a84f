"""Pages of a bucket's current objects."""

from frontend.access import INFO
from frontend.flows.listing import LIMIT_DEFAULT, LIMIT_MAX, list_objects
from frontend.rest import paths, query
from frontend.rest.handler import NativeHandler
from frontend.rest.times import iso_time
from osscore.errors import NoSuchBucket
from osscore.model import VersionInfo
from raftmeta.queries import ObjectsListed


class ObjectsHandler(NativeHandler):
    """`/buckets/BUCKET/objects` and `/objects`: `?prefix=&delimiter=&after=&limit=`."""

    async def get(self) -> None:
        """One page, by key order."""
        is_default = not self.request.path.startswith("/buckets/")
        bucket = paths.DEFAULT_BUCKET if is_default else paths.bucket_of(self.request.path)
        await self.allow(INFO, bucket)
        page = await self._page(bucket)
        self.reply_json(
            {
                "objects": [_shown(version) for version in page.objects],
                "prefixes": list(page.prefixes),
                "next": page.next,
            }
        )

    async def _page(self, bucket: str) -> ObjectsListed:
        arguments = self.arguments
        try:
            return await list_objects(
                self.store,
                bucket,
                prefix=query.text(arguments, "prefix"),
                delimiter=query.text(arguments, "delimiter"),
                after=query.text(arguments, "after"),
                limit=query.limit(arguments, default=LIMIT_DEFAULT, most=LIMIT_MAX),
            )
        except NoSuchBucket:
            if bucket != paths.DEFAULT_BUCKET:
                raise
            # The default bucket comes to be at its first PUT; until then it is empty.
            return ObjectsListed(objects=(), prefixes=())


def _shown(version: VersionInfo) -> dict[str, object]:
    return {
        "key": version.key,
        "size": version.attributes.size_bytes,
        "etag": version.etag,
        "version": version.number,
        "version_id": version.version_id,
        "modified": iso_time(version.created_at_ms),
    }
