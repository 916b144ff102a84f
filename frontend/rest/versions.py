"""Versions of objects: `/versions/...` line by line, `/buckets/BUCKET/versions` as pages.

`/versions/` and `/versions/NAME` keep the form of the store they replace: one
`{"Name","Version","Size","Hash"}` a line, oldest first, a JSON array where `Accept` asks for
it; `after` continues behind a version (of NAME) or behind the cursor in `Link`.
"""

import re
from urllib.parse import quote

from frontend.flows.listing import LIMIT_DEFAULT, LIMIT_MAX, list_versions
from frontend.flows.store import Store
from frontend.rest.handler import NativeHandler
from frontend.serving import query
from osscore import paths
from osscore.digest_headers import base64_text
from osscore.errors import NoSuchBucket
from osscore.model import VersionInfo
from osscore.times import iso_time
from raftmeta.access import INFO
from raftmeta.queries import VersionsListed

_CURSOR = re.compile(r"(\d{1,19}):(.+)", re.DOTALL)


class BucketVersionsHandler(NativeHandler):
    """`/buckets/BUCKET/versions` and `/buckets/BUCKET/versions/KEY`."""

    async def get(self) -> None:
        """One page: keys in order, newest first; `next` is the `after` of the next."""
        bucket, key = paths.bucket_and_rest(self.request.path, "/versions/")
        prefix = query.text(self.arguments, "prefix")
        await self.allow(INFO, bucket, key or prefix)
        after = parse_cursor(query.text(self.arguments, "after"))
        page = await _page(
            self.store,
            bucket,
            prefix=prefix,
            key=paths.key(key) if key else "",
            after=after,
            limit=query.limit(self.arguments, default=LIMIT_DEFAULT, most=LIMIT_MAX),
        )
        self.reply_json(
            {
                "versions": [shown_version(version) for version in page.versions],
                "next": cursor(page.next) if page.next else None,
            }
        )


class VersionLinesHandler(NativeHandler):
    """`/versions/` and `/versions/NAME` of the default bucket."""

    async def get(self) -> None:
        """One page of lines."""
        name = paths.after(self.request.path, "/versions/") if self.request.path[9:] else ""
        await self.allow(INFO, paths.DEFAULT_BUCKET, name)
        limit = query.limit(self.arguments, default=LIMIT_DEFAULT, most=LIMIT_MAX)
        if name:
            rows, following = await self._of_name(paths.key(name), limit)
        else:
            rows, following = await self._of_all(limit)
        if following:
            link = f"{self.request.path}?after={quote(following, safe='')}&limit={limit}"
            self.set_header("Link", f'<{link}>; rel="next"')
        lines = [_line(version) for version in rows]
        if self.wants_json():
            self.reply_json(lines)
        else:
            self.reply_lines(lines)

    async def _of_name(self, name: str, limit: int) -> tuple[list[VersionInfo], str]:
        """The `limit` versions behind `after`, oldest first."""
        behind = query.number(self.arguments, "after") or 0
        found: list[VersionInfo] = []
        position = ("", 0)
        while True:
            page = await self._list(name, position, LIMIT_MAX)
            found.extend(version for version in page.versions if version.number > behind)
            is_past = bool(page.versions) and page.versions[-1].number <= behind
            if page.next is None or is_past:
                break
            position = page.next
        found.reverse()
        rows = found[:limit]
        return rows, str(rows[-1].number) if len(found) > limit else ""

    async def _of_all(self, limit: int) -> tuple[list[VersionInfo], str]:
        """A page over all names; within it a name's versions are oldest first."""
        after = parse_cursor(query.text(self.arguments, "after"))
        page = await self._list("", after, limit)
        by_key: dict[str, list[VersionInfo]] = {}
        for version in page.versions:
            by_key.setdefault(version.key, []).append(version)
        rows = [version for versions in by_key.values() for version in reversed(versions)]
        return rows, cursor(page.next) if page.next else ""

    async def _list(self, key: str, after: tuple[str, int], limit: int) -> VersionsListed:
        return await _page(self.store, paths.DEFAULT_BUCKET, key=key, after=after, limit=limit)


async def _page(
    store: Store, bucket: str, *, key: str, after: tuple[str, int], limit: int, prefix: str = ""
) -> VersionsListed:
    try:
        return await list_versions(store, bucket, prefix=prefix, key=key, after=after, limit=limit)
    except NoSuchBucket:
        if bucket != paths.DEFAULT_BUCKET:
            raise
        # The default bucket comes to be at its first PUT; until then it is empty.
        return VersionsListed(versions=())


def cursor(position: tuple[str, int]) -> str:
    """A place in a listing of versions as the text of `after`."""
    key, number = position
    return f"{number}:{key}"


def parse_cursor(text: str) -> tuple[str, int]:
    """Inverse of cursor; a bare key means: behind all versions of it."""
    match = _CURSOR.fullmatch(text)
    return (match[2], int(match[1])) if match else (text, 0)


def _line(version: VersionInfo) -> dict[str, object]:
    sha256 = version.attributes.sha256
    return {
        "Name": version.key,
        "Version": version.number,
        "Size": version.attributes.size_bytes,
        "Hash": base64_text(sha256) if sha256 else "",
    }


def shown_version(version: VersionInfo) -> dict[str, object]:
    """A version as an entry of a listing."""
    return {
        "key": version.key,
        "version": version.number,
        "version_id": version.version_id,
        "size": version.attributes.size_bytes,
        "sha256": version.attributes.sha256.hex(),
        "etag": version.etag,
        "is_marker": version.is_marker,
        "is_latest": version.is_latest,
        "modified": iso_time(version.created_at_ms),
    }
