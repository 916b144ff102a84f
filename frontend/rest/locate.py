"""`/locate/NAME-OR-HASH`: where an object's shards lie."""

import asyncio
from urllib.parse import urlsplit

from frontend.access import INFO
from frontend.flows.locate import StripeLocation, locate_object
from frontend.rest import paths, query
from frontend.rest.digests import hash_of_name
from frontend.rest.handler import NativeHandler
from frontend.rest.metanodes import read_metanodes


class LocateHandler(NativeHandler):
    """Shard index -> host:port. A name wins over a hash; `?all=1`: every stripe."""

    async def get(self) -> None:
        """Stripe 0, or all; an inline object lies on the metanodes."""
        name = paths.key(paths.after(self.request.path, "/locate/"))
        bucket = query.text(self.arguments, "bucket", paths.DEFAULT_BUCKET)
        grant = await self.allow(INFO, bucket)
        wants_all = query.flag(self.arguments, "all")
        # A hash may be found in any bucket, which a key limited to some must not see.
        digest = None if grant.buckets else hash_of_name(name)
        found, stripes = await locate_object(
            self.store, bucket, name, digest, all_stripes=wants_all
        )
        self.set_version_headers(found.version)
        if not stripes:
            inline = await self._metanodes()
            size_bytes = found.version.attributes.size_bytes
            stripes = [StripeLocation(start=0, length=size_bytes, stripe="", shards=inline)]
        if not wants_all:
            self.reply_json(stripes[0].shards)
            return
        self.reply_json(
            {
                "stripes": [
                    {
                        "start": each.start,
                        "length": each.length,
                        "stripe": each.stripe,
                        "shards": each.shards,
                    }
                    for each in stripes
                ]
            }
        )

    async def _metanodes(self) -> dict[str, str]:
        async with asyncio.timeout(5):
            nodes = await read_metanodes(self.surface.rpc, self.surface.config.metanodes)
        return {str(number): urlsplit(node.url).netloc for number, node in enumerate(nodes)}
