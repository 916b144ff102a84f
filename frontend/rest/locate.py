"""`/locate/NAME-OR-HASH`: where an object's shards lie."""

import asyncio
from urllib.parse import urlsplit

from frontend.flows.locate import StripeLocation, locate_object
from frontend.rest.handler import NativeHandler
from frontend.rest.metanodes import read_metanodes
from frontend.serving import query
from osscore import paths
from osscore.digest_headers import hash_of_name
from raftmeta.access import INFO


class LocateHandler(NativeHandler):
    """Shard index -> host:port. A name wins over a hash; `?all=1`: every stripe."""

    async def get(self) -> None:
        """Stripe 0, or all; an inline object lies on the metanodes."""
        name = paths.key(paths.after(self.request.path, "/locate/"))
        bucket = query.text(self.arguments, "bucket", paths.DEFAULT_BUCKET)
        grant = await self.allow(INFO, bucket, name)
        wants_all = query.flag(self.arguments, "all")
        # A hash may be found anywhere, which a key limited to some of it must not see.
        digest = None if grant.buckets or grant.prefixes else hash_of_name(name)
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
            nodes = await read_metanodes(self.surface.rpc, self.store.meta.urls)
        return {str(number): urlsplit(node.url).netloc for number, node in enumerate(nodes)}
