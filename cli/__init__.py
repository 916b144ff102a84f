"""`ossctl`: the store from a terminal.

Reading order: `__main__` (the verbs), `objects`, `listing`, `buckets`, `cluster` (their
commands), `target` (how objects are named), `connection` (which frontend, which key), `api`
(HTTP to a frontend), `transfer` (files to objects and back), `fanout` (many of them),
`progress`, `output` (tables, JSON, exit codes), `local_cluster` and `local_process` (a whole
cluster as processes of this machine).

Must not know: metanodes and blob daemons, except to start and stop their processes.
"""
