"""What happens to objects: one story a file, no HTTP.

Reading order: `store` (what every flow needs), `put` with `cut`, `hashing`, `encode`,
`stripe_write`, `shard_fan`, `batches`, `staging` and `long_body` below it, `get` with
`stripe_read`, `shard_read`, `gather`, `pace`, `write_back` and `damage` below it, then `buckets`,
`objects` (find, delete, undelete), `listing`, `locate`.
"""
