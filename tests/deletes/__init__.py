"""What is deleted goes, from every disk and from the catalog, and nothing else ever does.

__main__    `make deletes`: the stories, the figures, and what they must be
footprint   what is there: rows of each table, shards and bytes of all disks
client      requests that are repeated until somebody answers
churn       thousands of objects stored and deleted while processes are killed
paused      a frontend that stands still longer than the grace; slow clients
absent      a node that is away while what it holds is deleted and written anew
restored    an older backup takes the place of the catalog
"""
