"""Disks are wiped and bytes flipped in a real cluster; what was repaired is read again, shard by
shard, from the daemons themselves: no word of theirs about it is believed.

    __main__    `make heal`: the stories, the figures, and what they must be
    site        a cluster, and the ways past its front door: its catalog, its daemons
    audit       every slot of every stripe, fetched and compared with the catalog's checksum
    leftovers   what disks hold beside what the catalog names
    objects     what is stored, and that it comes back as it was
    damage      wiped disks and flipped bytes
"""
