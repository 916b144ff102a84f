"""The pure ground of the store: no I/O, no clock, no randomness, no asyncio.

Reading order: `errors` (what may go wrong), `names` (what users may call things),
`model` (the words: stripe, shard, slot, profile, manifest), `gf256` and `erasure`
(the code), `geometry` (bytes to stripes to shards), `compression`, `digests`,
`placement` (which disks), `quorum` (when a write counts as durable). `paths`,
`digest_headers`, `kept_headers` and `times` spell all this in requests and answers, for every
role that users reach.

Must not know: HTTP beyond that spelling, SQLite, Raft, files, time, configuration.
"""
