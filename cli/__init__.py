"""`ossctl`: the store from a terminal.

Reading order: `__main__` (the verbs), `objects`, `buckets`, `cluster` (their commands),
`connection` (which frontend, which key), `api` (HTTP to a frontend), `transfer` (files to
objects and back), `output` (tables, JSON, exit codes), `local_cluster` and
`local_process` (a whole cluster as processes of this machine).

Must not know: metanodes and blob daemons, except to start and stop their processes.
"""
