"""Benchmarks: each module is a command that prints JSON. Never part of a test's verdict.

`store` (the whole store over HTTP), `codec`, `volume`, `blobd`, `catalog`, `raft_commits`,
`metadata`, `http_clients`, `memory` measure one part each.
"""
