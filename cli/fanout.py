"""One command over many objects.

What goes wrong with one object alone is told at the end and the others are done all the
same. What would go wrong with every other too (no access, no bucket, nobody answers, the
target is full) keeps those not yet begun from being begun; those that run are finished, so
each object is either done, named with its error, or counted as not begun.
"""

import asyncio
import errno
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

from cli.output import Failure, SomeFailed, UsageError
from osscore.errors import (
    AccessDenied,
    NoSuchBucket,
    StoreError,
    StripeUnreadable,
    Unauthenticated,
    Unavailable,
)

T = TypeVar("T")
PARALLEL = 8
ERRORS_OF_ALL = (Unauthenticated, AccessDenied, NoSuchBucket, Unavailable)
ERRORS_OF_ONE = (StripeUnreadable,)
"""Of the above, those that say nothing of other objects."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


async def each(
    items: Collection[T], work: Callable[[T], Awaitable[None]], *, name: Callable[[T], str]
) -> None:
    """Run `work` on each item, PARALLEL at a time; `name` says what failed.

    Raises the error itself when there is one item only, else SomeFailed.
    """
    waiting = iter(items)
    failures: list[Failure] = []
    begun = 0
    is_ended = False

    async def worker() -> None:
        nonlocal begun, is_ended
        for item in waiting:
            begun += 1
            try:
                await work(item)
            except (StoreError, UsageError, OSError) as error:
                if len(items) == 1:
                    raise
                failures.append(Failure(name(item), error))
                is_ended = is_ended or _meets_all(error)
            if is_ended:
                return

    # No TaskGroup: it would wrap the error of a single item.
    tasks = [asyncio.create_task(worker()) for _ in range(min(PARALLEL, len(items)))]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if failures:
        raise SomeFailed(failures, all_count=len(items), begun_count=begun)


def _meets_all(error: Exception) -> bool:
    """Whether the other objects would meet the same error."""
    if isinstance(error, OSError):
        return error.errno in FULL
    return isinstance(error, ERRORS_OF_ALL) and not isinstance(error, ERRORS_OF_ONE)
