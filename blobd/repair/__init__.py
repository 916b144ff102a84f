"""Writing shards anew where the catalog's tasks want them: the work of repair, drain and rebalance.

peers     where the disks of other daemons are, and which of them live
pull      the wanted shard, copied from its old slot or rebuilt from k others, verified
pace      a bound on the bytes written a second
mover     one disk's tasks: pull, store, tell the catalog
"""
