"""What this daemon keeps of the catalog, so that it can be made anew (ADR 20).

Reading order: `shelf` (one disk's folder), `shelves` (all disks of a daemon), `handlers` (HTTP).
The bytes and the names are `raftmeta.archive.pieces`, the paths `raftmeta.archive.wire`.

Must not know: what is in an entry or a snapshot.
"""
