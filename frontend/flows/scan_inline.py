"""The bodies that the catalog keeps itself, hashed and compared with what it says of them.

They have no shards: what is read is the copy of the metanode that leads. A scan mends none.
"""

from dataclasses import dataclass, field
from hashlib import sha256

from frontend.flows.store import Store
from osscore.model import VersionInfo
from raftmeta.scanning import InlineListed, InlineVersion, ListInline

PAGE_MAX = 128
PAGE_BYTES_MAX = 1 << 20
"""More than a page holds: each body has a few KiB."""
_ID_MAX = (1 << 63) - 1


@dataclass(slots=True)
class InlineScanned:
    """`checked`: bodies whose SHA-256 was compared; `unhashed`: those of which the catalog knows
    none, compared by their size. `corrupt`: of both, those that are missing or differ."""

    checked: int = 0
    unhashed: int = 0
    size_bytes: int = 0
    corrupt: list[VersionInfo] = field(default_factory=list)

    def add(self, more: "InlineScanned") -> None:
        """Count what was found in other versions."""
        self.checked += more.checked
        self.unhashed += more.unhashed
        self.size_bytes += more.size_bytes
        self.corrupt += more.corrupt


async def scan_inline_page(
    store: Store, after_id: int, *, bucket: str, prefix: str
) -> tuple[InlineScanned, int]:
    """The next versions behind `after_id`, of the store or of a bucket's objects, and the
    `after_id` of the page that follows, 0 at the end. Raises NoSuchBucket."""
    query = ListInline(
        after_id=min(after_id, _ID_MAX), limit=PAGE_MAX, bucket=bucket, prefix=prefix
    )
    page = await store.meta.query(query, InlineListed)
    size_bytes = sum(len(each.data or b"") for each in page.versions)
    return await store.off_loop(size_bytes, _compare, page.versions), page.next_id


def _compare(versions: tuple[InlineVersion, ...]) -> InlineScanned:
    found = InlineScanned()
    for each in versions:
        is_hashed = bool(each.version.attributes.sha256)
        found.checked += is_hashed
        found.unhashed += not is_hashed
        found.size_bytes += len(each.data or b"")
        if not _is_whole(each):
            found.corrupt.append(each.version)
    return found


def _is_whole(each: InlineVersion) -> bool:
    attributes = each.version.attributes
    if each.data is None or len(each.data) != attributes.size_bytes:
        return False
    return not attributes.sha256 or sha256(each.data).digest() == attributes.sha256
