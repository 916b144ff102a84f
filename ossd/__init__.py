"""What any daemon of the store needs, knowing nothing of objects, shards or Raft.

Reading order: `clock` and `disk` (the seams to time and files), `config`, `logs`,
`metrics`, `envelope` (errors on the wire), `signing` (who may call), `rpc` (calling),
`body_stream`, `server` and `http` (being called), `health`, `run` (start, drain, stop),
`lean_import`.

Must not know: any role, the model of objects, the catalog.
"""
