"""Pages of a bucket's objects, now or at a time."""

from typing import TypedDict

from frontend.flows.listing import LIMIT_DEFAULT, LIMIT_MAX, list_objects
from frontend.flows.timetravel import list_objects_at
from frontend.rest.handler import NativeHandler
from frontend.serving import query
from osscore import paths
from osscore.errors import NoSuchBucket
from osscore.model import VersionInfo
from osscore.times import iso_time
from raftmeta.access import INFO
from raftmeta.queries import ObjectsListed
from raftmeta.timetravel import ObjectsListedAt


class _Asked(TypedDict):
    """Which page is asked for."""

    prefix: str
    delimiter: str
    after: str
    limit: int


class ObjectsHandler(NativeHandler):
    """`/buckets/BUCKET/objects` and `/objects`: `?prefix=&delimiter=&after=&limit=&at=`."""

    async def get(self) -> None:
        """One page, by key order."""
        is_default = not self.request.path.startswith("/buckets/")
        bucket = paths.DEFAULT_BUCKET if is_default else paths.bucket_of(self.request.path)
        await self.allow(INFO, bucket, query.text(self.arguments, "prefix"))
        at_ms = self.asked_moment("at")
        if at_ms:
            await self._reply_at(bucket, at_ms)
            return
        page = await self._page(bucket)
        self.reply_json(
            {
                "objects": [_shown(version) for version in page.objects],
                "prefixes": list(page.prefixes),
                "next": page.next,
            }
        )

    async def _reply_at(self, bucket: str, at_ms: int) -> None:
        try:
            page = await list_objects_at(self.store, bucket, at_ms=at_ms, **self._asked())
        except NoSuchBucket:
            if bucket != paths.DEFAULT_BUCKET:
                raise
            page = ObjectsListedAt(objects=(), prefixes=())
        self.reply_json(
            {
                "objects": [_shown(version) for version in page.objects],
                "prefixes": list(page.prefixes),
                "gone": [
                    {
                        "key": gone.key,
                        "version": gone.number or None,
                        "was": "removed" if gone.is_certain else "unknown",
                    }
                    for gone in page.gone
                ],
                "next": page.next,
            }
        )

    def _asked(self) -> _Asked:
        arguments = self.arguments
        return {
            "prefix": query.text(arguments, "prefix"),
            "delimiter": query.text(arguments, "delimiter"),
            "after": query.text(arguments, "after"),
            "limit": query.limit(arguments, default=LIMIT_DEFAULT, most=LIMIT_MAX),
        }

    async def _page(self, bucket: str) -> ObjectsListed:
        try:
            return await list_objects(self.store, bucket, **self._asked())
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
