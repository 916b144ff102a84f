"""zstd in independent 256 KiB frames, only where it pays (SAFETY rule 27).

A frame can be decompressed alone, so a range read fetches the frames it needs
(`geometry.frame_span`). Bytes that do not compress are found out by a sample and cost next
to nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import zstandard

from osscore.digests import Bytes
from osscore.errors import CorruptStripe
from osscore.model import FRAME_BYTES

_LEVEL = 1
_SAMPLE_BYTES = 8 * 1024
_SAMPLES = 3
# Below this a frame's own header and the shards' minimum size eat the gain.
_WORTHWHILE_BYTES = 512
# Kept if at most nine tenths remain: less gain is not worth decompressing at each read.
_KEPT_NUMERATOR, _KEPT_DENOMINATOR = 9, 10


@dataclass(frozen=True, slots=True)
class Compressed:
    """What to store: `frames` has the stored size of each frame.

    () when stored plain; `stored` is then the very object that was given.
    """

    stored: Bytes
    frames: tuple[int, ...]


def compress(plain: Bytes) -> Compressed:
    """Compress if it saves a tenth or more, judged on a sample first and then on the whole."""
    view = memoryview(plain).cast("B")
    # One object a call, because zstandard's are not safe to share between threads.
    compressor = zstandard.ZstdCompressor(level=_LEVEL)
    if len(view) < _WORTHWHILE_BYTES or not _sample_pays(compressor, view):
        return Compressed(plain, ())
    frames = [
        compressor.compress(view[start : start + FRAME_BYTES])
        for start in range(0, len(view), FRAME_BYTES)
    ]
    sizes = tuple(len(frame) for frame in frames)
    if not _pays(sum(sizes), len(view)):
        return Compressed(plain, ())
    return Compressed(b"".join(frames), sizes)


def decompress(stored: Bytes, frames: Sequence[int], plain_bytes: int) -> bytes:
    """The plain bytes of consecutive frames; `stored` itself where `frames` is ().

    `frames` has the stored size of each given frame and `plain_bytes` their plain size
    together, so that a run of frames of a stripe can be given as well as all of them. Raises
    CorruptStripe unless everything fits exactly.
    """
    if not frames:
        if len(stored) != plain_bytes:
            raise CorruptStripe(f"{len(stored)} plain bytes stored, {plain_bytes} expected.")
        return bytes(stored)
    if sum(frames) != len(stored) or len(frames) != -(-plain_bytes // FRAME_BYTES):
        raise CorruptStripe("The table of compressed frames does not fit the stored bytes.")
    view = memoryview(stored).cast("B")
    decompressor = zstandard.ZstdDecompressor()
    pieces = []
    start = 0
    for index, size_bytes in enumerate(frames):
        expected_bytes = min(FRAME_BYTES, plain_bytes - index * FRAME_BYTES)
        pieces.append(_open(decompressor, view[start : start + size_bytes], expected_bytes))
        start += size_bytes
    return b"".join(pieces)


def _open(
    decompressor: zstandard.ZstdDecompressor, frame: memoryview, expected_bytes: int
) -> bytes:
    """Decompress one frame of known plain size. Raises CorruptStripe."""
    try:
        # Asked before decompressing: a damaged header could claim any size.
        claimed_bytes = zstandard.frame_content_size(frame)
        if claimed_bytes == expected_bytes:
            return decompressor.decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptStripe(f"A compressed frame cannot be read: {error}.") from error
    raise CorruptStripe(f"A frame holds {claimed_bytes} bytes, {expected_bytes} expected.")


def _sample_pays(compressor: zstandard.ZstdCompressor, view: memoryview) -> bool:
    """Judge by pieces from the beginning, the middle and the end."""
    if len(view) <= _SAMPLES * _SAMPLE_BYTES:
        return True
    gap_bytes = (len(view) - _SAMPLE_BYTES) // (_SAMPLES - 1)
    starts = [index * gap_bytes for index in range(_SAMPLES)]
    sizes = [len(compressor.compress(view[start : start + _SAMPLE_BYTES])) for start in starts]
    return _pays(sum(sizes), _SAMPLES * _SAMPLE_BYTES)


def _pays(compressed_bytes: int, plain_bytes: int) -> bool:
    return compressed_bytes * _KEPT_DENOMINATOR <= plain_bytes * _KEPT_NUMERATOR
