"""The catalog: one SQLite file that applies commands and answers queries.

Read `schema` (the tables), `catalog` (the door: apply, answer, checkpoint, copy), `batch`
(one log entry: time, exactly once, one savepoint a command), then `apply_*` by family and
`query_*` by family. `stripes` and `manifests` hold what the families share.

Knows nothing of Raft, HTTP or any clock: time comes with the batch (SAFETY rule 17).
"""
