"""The metanode: a Raft-replicated catalog of buckets, versions, stripes, slots and nodes.

Reading order: `commands` (every way to change the catalog), `queries` (every way to ask),
`wire` (their form on HTTP), `catalog` (SQLite, applies commands), `journal`, `transport`,
`replica` (PySyncObj made durable), `groupcommit` (requests to Raft entries), `handlers`
(HTTP), `stewards` (the leader's standing work), `client` (how others reach the leader),
`__main__` (wires it together).

Must not know: object bytes beyond inline bodies, how shards are stored, user dialects.
"""
