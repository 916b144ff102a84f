"""Writing shards anew where the catalog's tasks want them: the work of repair, drain and rebalance,
and of encoding stripes anew.

peers     where the disks of other daemons are, and which of them live
pull      the wanted shard, copied from its old slot or rebuilt from k others, verified
pace      a bound on the bytes written a second
spare     memory that no request waits for
mover     one disk's tasks: pull, store, tell the catalog
recode    a stripe's bytes verified and made into the shards of another coding
reencoder the stripes that one disk's daemon is to encode anew: gather, recode, send, tell
"""
