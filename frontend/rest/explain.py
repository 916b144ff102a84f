"""`/explain/NAME`: what is kept of an object, where, and what it would survive now."""

from collections.abc import Iterable

from frontend.flows.explain import Explained, StripeExplained, explain_object
from frontend.flows.objects import ObjectRef
from frontend.rest.handler import NativeHandler
from frontend.rest.versions import shown_version
from frontend.serving import query
from osscore import paths
from osscore.times import iso_time
from raftmeta.access import INFO


class ExplainHandler(NativeHandler):
    """The current version, or `?version=`."""

    async def get(self) -> None:
        """Version chain, sizes, sharing, and every shard with its state."""
        name = paths.key(paths.after(self.request.path, "/explain/"))
        bucket = query.text(self.arguments, "bucket", paths.DEFAULT_BUCKET)
        await self.allow(INFO, bucket, name)
        number = query.number(self.arguments, "version")
        explained = await explain_object(
            self.store, ObjectRef(bucket=bucket, key=name, number=number)
        )
        self.set_version_headers(explained.version)
        self.reply_json(_shown(explained))


def _shown(explained: Explained) -> dict[str, object]:
    stripes = explained.stripes
    return {
        "bucket": explained.version.bucket,
        "key": explained.version.key,
        "version": shown_version(explained.version),
        "versions": [shown_version(each) for each in explained.versions],
        "is_inline": not stripes,
        "logical_bytes": explained.version.attributes.size_bytes,
        "stored_bytes": explained.stored_bytes,
        "profiles": [str(profile) for profile in explained.profiles],
        "survives_nodes": min((each.survives_nodes for each in stripes), default=None),
        "survives_disks": min((each.survives_disks for each in stripes), default=None),
        "survives_zones": _least(each.survives_zones for each in stripes),
        "stripes": [_shown_stripe(each) for each in stripes],
    }


def _least(counts: Iterable[int | None]) -> int | None:
    """The smallest; None where one is not known, or there are none."""
    found = list(counts)
    known = [each for each in found if each is not None]
    return min(known) if known and len(known) == len(found) else None


def _shown_stripe(each: StripeExplained) -> dict[str, object]:
    stripe = each.stripe
    return {
        "stripe": stripe.stripe.hex(),
        "start": each.start,
        "length": each.length,
        "coding": f"{stripe.coding.data_count}+{stripe.coding.parity_count}",
        "is_replicated": stripe.coding.data_count == 1 and stripe.profile.data_count > 1,
        "plain_bytes": stripe.plain_bytes,
        "compressed_bytes": stripe.stored_bytes if stripe.frames else None,
        "shard_bytes": stripe.shard_bytes,
        "references": each.references,
        "survives_nodes": each.survives_nodes,
        "survives_disks": each.survives_disks,
        "survives_zones": each.survives_zones,
        "shards": [
            {
                "index": shard.index,
                "generation": shard.gen,
                "node": shard.node,
                "zone": shard.zone,
                "disk": shard.disk,
                "state": shard.state,
                "verified": iso_time(shard.verified_at_ms) if shard.verified_at_ms else None,
            }
            for shard in each.shards
        ],
    }
