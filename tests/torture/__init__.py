"""Kill loops against a real cluster: nothing acknowledged may be lost, doubled or stale.

`ledger` (what the store promised), `workload` (writers and readers that fill it),
`faults` (what is killed, wiped, restarted), `verify` (the ledger against the store),
`__main__` (the command). The store is seen only from outside: HTTP and signals.
"""
