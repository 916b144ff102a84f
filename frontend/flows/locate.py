"""Where an object's shards lie."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from frontend.flows.objects import ObjectRef, find_object
from frontend.flows.store import Store
from osscore.errors import NoSuchKey, NotFound
from osscore.model import Segment, SlotState, Stripe
from raftmeta.queries import FindDigest, Found, ObjectsFound, ReadSegments, SegmentsRead

_PAGE_SEGMENTS = 256


@dataclass(frozen=True, slots=True)
class StripeLocation:
    """One stripe of an object: `shards` is shard index -> host:port of its node."""

    start: int
    length: int
    stripe: str
    shards: dict[str, str]


async def locate_object(
    store: Store, bucket: str, name: str, digest: bytes | None, *, all_stripes: bool
) -> tuple[Found, list[StripeLocation]]:
    """The object of that name, else the one of that SHA-256, and where its stripes lie.

    No stripes: it is empty or lies inline, on the metanodes. Raises NoSuchKey.
    """
    found = await _find(store, bucket, name, digest)
    await store.cluster.current()
    return found, [
        StripeLocation(
            start=segment.start,
            length=segment.length,
            stripe=segment.stripe.stripe.hex(),
            shards=_shards(store, segment.stripe),
        )
        for segment in await segments_of(store, found, all_stripes=all_stripes)
    ]


async def _find(store: Store, bucket: str, name: str, digest: bytes | None) -> Found:
    try:
        return await find_object(store, ObjectRef(bucket=bucket, key=name), segments_max=1)
    except NotFound:
        if digest is None:
            raise
    versions = (await store.meta.query(FindDigest(sha256=digest), ObjectsFound)).versions
    if not versions:
        raise NoSuchKey("There is no object of that name or content.")
    one = versions[0]
    ref = ObjectRef(bucket=one.bucket, key=one.key, number=one.number)
    return await find_object(store, ref, segments_max=1)


async def segments_of(store: Store, found: Found, *, all_stripes: bool) -> list[Segment]:
    # All of them, page by page, or the first alone.
    segments = list(found.segments)
    size_bytes = found.version.attributes.size_bytes
    while all_stripes and segments and segments[-1].start + segments[-1].length < size_bytes:
        query = ReadSegments(
            manifest=found.version.manifest,
            first=segments[-1].start + segments[-1].length,
            segments_max=_PAGE_SEGMENTS,
        )
        segments.extend((await store.meta.query(query, SegmentsRead)).segments)
    return segments if all_stripes else segments[:1]


async def hosts_of(store: Store, found: Found) -> list[str]:
    """The hosts, each once, that hold what `found` tells of a version; none: it lies inline."""
    await store.cluster.current()
    places = [
        store.cluster.place(slot.disk)
        for segment in found.segments
        for slot in segment.stripe.slots
        if slot.state is SlotState.GOOD
    ]
    return sorted({urlsplit(place.url).hostname or "" for place in places if place is not None})


def _shards(store: Store, stripe: Stripe) -> dict[str, str]:
    shards = {}
    for slot in stripe.slots:
        place = store.cluster.place(slot.disk)
        if slot.state is SlotState.GOOD and place is not None:
            shards[str(slot.index)] = urlsplit(place.url).netloc
    return shards
