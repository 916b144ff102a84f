"""The words of who the metanodes are: members of the cluster, and the command that sets them."""

import msgspec

from raftmeta.commands import Command


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A metanode: `raft` is host:port of its Raft link, `url` its HTTP base."""

    id: str
    raft: str
    url: str


class SetMembers(Command, frozen=True, kw_only=True):
    """These are the metanodes that count, by id. Only ever alone in an entry of its own kind,
    which the Raft layer obeys as soon as it is in the log (raftmeta.membership); applying it
    records it. Never refused."""

    members: tuple[Member, ...]
