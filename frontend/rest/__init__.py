"""The native dialect: objects, buckets, listings and versions over plain HTTP and JSON.

Reading order: `handler` (who may, common answers), `objects`, `buckets`, `listings`,
`versions`, `locate`, `cluster`, and `routes`. It knows flows, never shards or stripes. What
it shares with the other dialects is in `frontend.serving`, what with other roles in `osscore`.
"""
