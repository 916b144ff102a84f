"""Compression gives the bytes back, keeps only what pays, and trusts no stored byte."""

import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from osscore.compression import Compressed, compress, decompress
from osscore.errors import CorruptStripe
from osscore.model import FRAME_BYTES, STRIPE_BYTES_MAX

TEXT = b"".join(b"line %07d of a log that compresses well\n" % n for n in range(30_000))


def noise(size_bytes: int) -> bytes:
    return random.Random(size_bytes).randbytes(size_bytes)


@given(pieces=st.lists(st.tuples(st.booleans(), st.integers(0, 400_000)), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_what_was_compressed_comes_back(pieces):
    plain = b"".join(TEXT[:size] if is_text else noise(size) for is_text, size in pieces)
    packed = compress(plain)
    assert decompress(packed.stored, packed.frames, len(plain)) == plain
    assert sum(packed.frames) == (len(packed.stored) if packed.frames else 0)


@given(plain=st.binary(max_size=3_000))
def test_any_short_bytes_come_back(plain):
    packed = compress(plain)
    assert decompress(packed.stored, packed.frames, len(plain)) == plain


@given(size_bytes=st.integers(1, 3 * FRAME_BYTES))
@settings(max_examples=20, deadline=None)
def test_kept_only_if_a_tenth_is_saved(size_bytes):
    packed = compress(TEXT[:size_bytes])
    if packed.frames:
        assert len(packed.stored) * 10 <= size_bytes * 9
    else:
        assert packed.stored == TEXT[:size_bytes]


def test_text_is_compressed_in_frames_of_256_kib():
    packed = compress(TEXT)
    assert len(packed.frames) == -(-len(TEXT) // FRAME_BYTES)
    assert len(packed.stored) < len(TEXT) // 2


def test_each_frame_opens_alone():
    packed = compress(TEXT)
    start = sum(packed.frames[:2])
    one = packed.stored[start : start + packed.frames[2]]
    assert (
        decompress(one, packed.frames[2:3], FRAME_BYTES)
        == (TEXT[2 * FRAME_BYTES : 3 * FRAME_BYTES])
    )


def test_random_bytes_are_stored_as_they_are():
    plain = noise(1_000_000)
    packed = compress(plain)
    assert packed == Compressed(plain, ())
    assert packed.stored is plain


def test_random_bytes_cost_almost_nothing():
    plain = noise(STRIPE_BYTES_MAX)

    def fastest_s(act) -> float:
        durations = []
        for _ in range(5):
            started_s = time.perf_counter()
            act()
            durations.append(time.perf_counter() - started_s)
        return min(durations)

    compressor = zstandard.ZstdCompressor(level=1)
    assert fastest_s(lambda: compress(plain)) < fastest_s(lambda: compressor.compress(plain)) / 3


def test_a_good_sample_does_not_keep_a_bad_whole():
    plain = bytearray(noise(STRIPE_BYTES_MAX))
    middle = len(plain) // 2
    for start in (0, middle - 8_192, len(plain) - 16_384):
        plain[start : start + 16_384] = bytes(16_384)
    assert compress(plain).frames == ()


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_any_buffer_will_do(kind):
    packed = compress(kind(TEXT))
    assert packed == compress(TEXT)
    assert decompress(kind(packed.stored), packed.frames, len(TEXT)) == TEXT


def test_plain_bytes_of_a_wrong_size_are_corrupt():
    with pytest.raises(CorruptStripe):
        decompress(b"abc", (), 4)


@pytest.mark.parametrize("plain_bytes", [0, 1, len(TEXT) - 1, len(TEXT) + 1, 10 * len(TEXT)])
def test_frames_of_another_plain_size_are_corrupt(plain_bytes):
    packed = compress(TEXT)
    with pytest.raises(CorruptStripe):
        decompress(packed.stored, packed.frames, plain_bytes)


def test_a_frame_that_claims_too_much_is_never_opened():
    bomb = zstandard.ZstdCompressor().compress(bytes(50_000_000))
    with pytest.raises(CorruptStripe):
        decompress(bomb, (len(bomb),), 1_000)


def test_bytes_behind_a_frame_are_corrupt():
    packed = compress(TEXT[:1_000])
    longer = packed.stored + b"tail"
    with pytest.raises(CorruptStripe):
        decompress(longer, (len(longer),), 1_000)


@given(position=st.integers(min_value=0), flip=st.integers(1, 255))
@settings(deadline=None)
def test_damage_gives_the_error_or_as_many_bytes(position, flip):
    # zstd frames carry no checksum here: the stripe's CRC32C is checked before decompressing.
    packed = compress(TEXT[:5_000])
    damaged = bytearray(packed.stored)
    damaged[position % len(damaged)] ^= flip
    try:
        assert len(decompress(damaged, packed.frames, 5_000)) == 5_000
    except CorruptStripe:
        pass


def test_threads_may_compress_at_once():
    parts = [TEXT[start : start + 300_000] for start in range(0, 600_000, 15_000)]

    def round_trip(part: bytes) -> bool:
        packed = compress(part)
        return decompress(packed.stored, packed.frames, len(part)) == part

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(round_trip, parts))
