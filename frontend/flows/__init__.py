"""What happens to objects: one story a file, no HTTP.

Reading order: `store` (what every flow needs), `put` with `cut`, `hashing`, `encode`,
`stripe_write`, `shard_fan`, `batches`, `staging` and `long_body` below it, `get` with
`segments`, `stripe_read`, `gather`, `pace` and `write_back` below it, then `buckets`,
`objects` (find, delete, undelete), `listing`, `locate`.
"""
