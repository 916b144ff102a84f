"""Who is dead, and how far healing is: judgements on disks, and what the leader plans."""

import msgspec

from raftmeta.commands import Command


class JudgeDisk(Command, frozen=True, kw_only=True):
    """The leader's judgement on a disk (SAFETY rule 23): `is_lost`, or back again.

    A lost disk's shards do not count. One that is back counts again, and is draining if it was.
    Removed, or judged so before: no change. Refused NoSuchNode. Repeating it is harmless.
    """

    disk: int
    is_lost: bool


class DrainDisk(Command, frozen=True, kw_only=True):
    """Empty a disk: it takes nothing new, and its shards are moved elsewhere; `drains` False:
    no longer. A lost disk is emptied once it is back. Refused NoSuchNode, Conflict (removed).
    """

    disk: int
    drains: bool


REPAIRS, REBALANCING, REENCODING = "repair", "rebalance", "reencode"
WORKS = (REPAIRS, REBALANCING, REENCODING)
"""Kinds of work that can be paused; draining and spreading are part of the second."""


class PauseWork(Command, frozen=True, kw_only=True):
    """Stop one kind of work, or go on with it (`paused` False), until told otherwise. Refused
    InvalidArgument."""

    work: str
    paused: bool


class ReencodeProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How the leader sees a job of encoding anew, 0: that of replicas. What is left is as of its
    last whole walk, or so far if `is_surveyed` is False. `waits`: why it does not get on, for
    people."""

    job: int
    is_surveyed: bool = False
    left_stripes: int = 0
    left_bytes: int = 0
    kept_stripes: int = 0
    waits: str = ""


class ReencodingState(msgspec.Struct, frozen=True, kw_only=True):
    """What the leader has in hand. `bytes_per_s`: plain bytes, on average of the last minute."""

    progress: tuple[ReencodeProgress, ...] = ()
    tasks: int = 0
    bytes_per_s: float = 0.0


class HealingState(msgspec.Struct, frozen=True, kw_only=True):
    """How the leader sees the cluster's health, and what is planned.

    `alarm`: why nothing is judged lost now, for people; empty: all is judged. `missing[n]`:
    living stripes with n shards missing, bad or on lost disks, `unreadable` those with fewer
    shards left than they need, `repair_bytes` the shards to be written for the others; as of
    the last whole survey, or so far if `is_surveyed` is False. `tasks`: open ones by reason,
    `task_bytes` all they have to write; `bytes_per_s`: what was really written, on average of
    the last minute. `rebalance_bytes`: beyond their share on disks that are too full, 0 while all
    are about equally full; `drain_bytes`: on disks that drain. `objects[n]`: versions of objects of
    which a stripe misses n shards and none misses more, a few seconds old; `objects_partial`: not
    all damaged stripes were looked at for that.
    """

    alarm: str = ""
    is_surveyed: bool = False
    missing: dict[int, int] = {}
    unreadable: int = 0
    repair_bytes: int = 0
    tasks: dict[str, int] = {}
    task_bytes: int = 0
    bytes_per_s: float = 0.0
    rebalance_bytes: int = 0
    drain_bytes: int = 0
    objects: dict[int, int] = {}
    objects_partial: bool = False
    reencoding: ReencodingState = ReencodingState()
