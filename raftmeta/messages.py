"""What members say to each other on Raft links (docs/formats/raft-links.md).

Tagged arrays in msgpack: decoding builds nothing but these. A message of an unknown tag
or shape is dropped by the receiver.
"""

import msgspec


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Base of all messages."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One log entry; its index follows from its place in the message."""

    term: int
    body: bytes


class Append(Message, frozen=True):
    """Leader: after entry `prev_index` of `prev_term` come these. No entries: a heartbeat."""

    term: int
    prev_index: int
    prev_term: int
    commit_index: int
    entries: tuple[Entry, ...] = ()


class Appended(Message, frozen=True):
    """Follower: in `term` my log equals yours up to `match_index`, durably."""

    term: int
    match_index: int


class Mismatch(Message, frozen=True):
    """Follower: I cannot place that; go on from `next_index`. Promises nothing."""

    term: int
    next_index: int


class Behind(Message, frozen=True):
    """Leader: my log begins behind `base_index`, which you lack: install a copy."""

    term: int
    base_index: int
    base_term: int


class AskVote(Message, frozen=True):
    """Candidate of `term`, whose log ends in (last_index, last_term). `by_order`: the leader
    itself told it to stand, so that there is one does not speak against it."""

    term: int
    last_index: int
    last_term: int
    by_order: bool = False


class Stand(Message, frozen=True):
    """Leader of `term`: you have all I have, stand for election now in my place."""

    term: int


class Vote(Message, frozen=True):
    """Yours in `term`; durable before it was sent."""

    term: int


class AskPreVote(Message, frozen=True):
    """Would you vote for me? Changes nothing anywhere. `round` pairs question and answer."""

    round: int
    last_index: int
    last_term: int


class PreVote(Message, frozen=True):
    """I would. `term` is mine: the candidacy has to be of a higher one."""

    round: int
    term: int


class AskTerm(Message, frozen=True):
    """Leader, before a linearizable read: is `term` still the highest you know?"""

    round: int
    term: int


class TermHeld(Message, frozen=True):
    """It is."""

    round: int
    term: int


class KeepAlive(Message, frozen=True):
    """Nothing to say; the link is fine."""


AnyMessage = (
    Append
    | Appended
    | Mismatch
    | Behind
    | AskVote
    | Stand
    | Vote
    | AskPreVote
    | PreVote
    | AskTerm
    | TermHeld
    | KeepAlive
)
