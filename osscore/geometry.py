"""Where bytes lie: object ranges in stripes, stored bytes in shards, plain bytes in frames.

Ranges are [first, last], both inclusive, as in HTTP.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from osscore.errors import InvalidRange
from osscore.model import BLOCK_BYTES, FRAME_BYTES, Coding


@dataclass(frozen=True, slots=True)
class StripeSlice:
    """`length` bytes from `offset` of the stripe number `index` of an object."""

    index: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class ShardWindow:
    """What to fetch of data shard `index`, and what of it to use.

    Fetch [first, first + length): it begins and ends on a border of the 64 KiB blocks that
    carry CRCs, or at the shard's end. Then use the bytes [skip, skip + take) of that.
    """

    index: int
    first: int
    length: int
    skip: int
    take: int


@dataclass(frozen=True, slots=True)
class FrameSpan:
    """The zstd frames that hold a plain range.

    Fetch stored bytes [stored_first, stored_last] (inclusive), decompress them with `frames`
    and `plain_bytes`, then use [skip, skip + take) of the result.
    """

    stored_first: int
    stored_last: int
    frames: tuple[int, ...]
    plain_bytes: int
    skip: int
    take: int


def slices(size_bytes: int, stripe_bytes: int, first: int, last: int) -> list[StripeSlice]:
    """Cut the byte range [first, last], both inclusive, at stripe borders.

    Slices come in object order, together cover the range once, and none is empty.
    Raises InvalidRange unless 0 <= first <= last < size_bytes.
    """
    _check_range(first, last, size_bytes)
    return [
        StripeSlice(index=run.index, offset=run.offset, length=run.length)
        for run in _runs(stripe_bytes, first, last)
    ]


def shard_windows(
    coding: Coding, *, shard_bytes: int, stored_bytes: int, first: int, last: int
) -> list[ShardWindow]:
    """Which parts of which data shards hold the stored bytes [first, last].

    Windows come in order of the stored bytes, and their used parts cover the range once. With
    replicas everything lies in shard 0, and any other copy has the same window. Raises
    InvalidRange unless 0 <= first <= last < stored_bytes.
    """
    _check_range(first, last, stored_bytes)
    assert stored_bytes <= coding.data_count * shard_bytes
    windows = []
    for run in _runs(shard_bytes, first, last):
        start = run.offset - run.offset % BLOCK_BYTES
        blocks = -(-(run.offset + run.length) // BLOCK_BYTES)
        stop = min(blocks * BLOCK_BYTES, shard_bytes)
        windows.append(
            ShardWindow(
                index=run.index,
                first=start,
                length=stop - start,
                skip=run.offset - start,
                take=run.length,
            )
        )
    return windows


def frame_span(frames: Sequence[int], *, plain_bytes: int, first: int, last: int) -> FrameSpan:
    """Which frames hold the plain bytes [first, last] of a compressed stripe.

    `frames` has the stored size of each frame, as `compression.compress` gave it. Raises
    InvalidRange unless 0 <= first <= last < plain_bytes.
    """
    _check_range(first, last, plain_bytes)
    begin, end = first // FRAME_BYTES, last // FRAME_BYTES + 1
    assert end <= len(frames)
    stored_first = sum(frames[:begin])
    wanted = tuple(frames[begin:end])
    plain_start = begin * FRAME_BYTES
    return FrameSpan(
        stored_first=stored_first,
        stored_last=stored_first + sum(wanted) - 1,
        frames=wanted,
        plain_bytes=min(end * FRAME_BYTES, plain_bytes) - plain_start,
        skip=first - plain_start,
        take=last - first + 1,
    )


@dataclass(frozen=True, slots=True)
class _Run:
    """A part of a range inside one of many equal boxes laid end to end."""

    index: int
    offset: int
    length: int


def _runs(box_bytes: int, first: int, last: int) -> list[_Run]:
    runs = []
    position = first
    while position <= last:
        index, offset = divmod(position, box_bytes)
        length = min(box_bytes - offset, last + 1 - position)
        runs.append(_Run(index=index, offset=offset, length=length))
        position += length
    return runs


def _check_range(first: int, last: int, size_bytes: int) -> None:
    if not 0 <= first <= last < size_bytes:
        raise InvalidRange(
            f"Bytes {first} to {last} do not lie inside {size_bytes} bytes.",
            size_bytes=size_bytes,
        )
