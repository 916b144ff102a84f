"""The frontend: HTTP to users, on top of the metadata and the blob daemons. Stateless.

Reading order: `cluster` (who is there), `budget` (how much may be in memory), `credentials`
and `access` (who may), `flows` (what happens), `rest` (how it is said in HTTP), `config`,
`__main__` (how it is put together). Flows know no HTTP; dialects know no shards.
"""
