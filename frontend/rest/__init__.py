"""The native dialect: objects, buckets, listings and versions over plain HTTP and JSON.

Reading order: `paths`, `query`, `ranges`, `etags`, `digests`, `encoding`, `headers` (parsing,
pure), then `handler` (who may, common answers), `objects`, `buckets`, `listings`,
`versions`, `locate`, `cluster`, and `routes`. It knows flows, never shards or stripes.
"""
