"""The blob daemon: keeps shards durable in append-only volumes and gives them back verified.

Reading order: `wire` (its HTTP), `record` (the bytes on disk), `volume` (an append-only
file), `index` (where each shard lies), `shardstore` (one disk: volumes, index, group
commit), `compaction`, `disks` (all data folders of a daemon), `handlers` (HTTP),
`membership` (register, heartbeat), `collect` (trash and sweep), `temp/` (large files sent
here by users), `client` (how others reach it), `__main__`.

Must not know: objects, buckets, versions, users; only `temp/` does, as names it hands on.
"""
