"""Every member's log cutting: by bytes, behind a durable catalog (SAFETY rule 20)."""

import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from osscore.errors import NotReady
from ossd.clock import Clock

PAUSE_S = 1.0

log = logging.getLogger(__name__)


class Log(Protocol):
    """The part of a replica that cutting needs."""

    @property
    def cut_due(self) -> bool:
        """Whether the log is longer than it should be."""

    def cut_log(self, applied_index_durable: int) -> None:
        """Drop what a durable catalog of that index makes needless."""


Checkpoint = Callable[[], Awaitable[int]]
"""Makes the catalog durable; answers the applied index it then holds for sure."""


async def cut_if_due(replica: Log, checkpoint: Checkpoint) -> bool:
    """Cut the log if it is long; whether it was. What a failing disk raises is final: a
    catalog that cannot be made durable must never let its log go."""
    if not replica.cut_due:
        return False
    # Only after a full checkpoint and sync: the log is what a page of the catalog lost with
    # the power would be made anew from.
    durable_index = await checkpoint()
    try:
        replica.cut_log(durable_index)
    except NotReady:
        return False  # it has stopped meanwhile
    log.info("log_cut", extra={"durable_index": durable_index})
    return True


async def cut_for_ever(replica: Log, checkpoint: Checkpoint, *, clock: Clock) -> None:
    """Until cancelled."""
    while True:
        await clock.sleep(PAUSE_S)
        await cut_if_due(replica, checkpoint)
