"""The catalog as blob daemons keep it, so that losing every metanode loses no names (ADR 20).

Reading order: `pieces` (the bytes of a log in pieces, the names of files), `wire` and `client`
(how daemons are given and asked for them), `gathering` (what daemons hold, brought together),
`chains` (which of it continues which), `replay` (a backup made of that).

The steward that fills archives is `raftmeta.stewards.archiving`; what keeps them `blobd.archive`.
"""
