"""One code, several engines, the same bytes; any k shards give the stripe back."""

import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from osscore import erasure
from osscore.engine_isal import load_isal
from osscore.engine_reference import ReferenceEngine
from osscore.erasure import Codec, answers_agree, best_codec, shard_bytes, table_codec
from osscore.errors import CorruptStripe, StripeUnreadable
from osscore.gf256 import Gf256, cauchy_rows
from osscore.model import Coding, CodingKind, Profile, reed_solomon, replicas

FIELD = Gf256.from_pyfinite()
REFERENCE = Codec(ReferenceEngine(), FIELD)
TABLE = table_codec(FIELD)
ISAL_ENGINE = load_isal()
FAST = [TABLE] if ISAL_ENGINE is None else [TABLE, Codec(ISAL_ENGINE, FIELD)]
every_fast_codec = pytest.mark.parametrize("codec", FAST, ids=lambda codec: codec.name)

PROFILES = ["1+1", "2+1", "3+2", "4+2", "6+3", "8+4", "16+8", "1+8", "16+1", "5+3"]
CODINGS = st.sampled_from([reed_solomon(Profile.parse(text)) for text in PROFILES])
SEEDS = st.integers(0, 2**32)

GOLDEN_INPUT = bytes(range(1, 42))
GOLDEN_PARITY = {
    "2+1": ["770c87fe710a720f80fb601996ed95e06f149fe684"],
    "3+2": ["60e398dea52a51dca72c57215aff", "cf29b30b91841e5bc1851faf35d8"],
    "4+2": ["8fd71f440ba4d58c3ed41d", "c5b41ba7fa326a87249e4a"],
    "6+3": ["c2e4864c0f2ff1", "dc1c3e6dbf8cb9", "01dd9261250e61"],
    "8+4": ["ef8639803fd6", "3772067b0fde", "172ba886050b", "e8c2d68e9a87"],
}


def coding_of(text: str) -> Coding:
    return reed_solomon(Profile.parse(text))


def noise(size_bytes: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size_bytes)


def plain(shards) -> list[bytes]:
    return [bytes(shard) for shard in shards]


@pytest.mark.parametrize("codec", [REFERENCE, *FAST], ids=lambda codec: codec.name)
@pytest.mark.parametrize("text", GOLDEN_PARITY)
def test_golden_bytes_of_the_format(codec, text):
    coding = coding_of(text)
    shards = plain(codec.encode(coding, GOLDEN_INPUT))
    padded_bytes = coding.data_count * shard_bytes(len(GOLDEN_INPUT), coding)
    assert b"".join(shards[: coding.data_count]) == GOLDEN_INPUT.ljust(padded_bytes, b"\0")
    assert [shard.hex() for shard in shards[coding.data_count :]] == GOLDEN_PARITY[text]


@every_fast_codec
@given(coding=CODINGS, size_bytes=st.integers(1, 150), seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_an_engine_equals_the_reference_byte_for_byte(codec, coding, size_bytes, seed):
    stored = noise(size_bytes, seed)
    assert plain(codec.encode(coding, stored)) == plain(REFERENCE.encode(coding, stored))


@pytest.mark.skipif(ISAL_ENGINE is None, reason="this platform has no ISA-L library")
@given(coding=CODINGS, size_bytes=st.integers(1, 200_000), seed=SEEDS)
@settings(max_examples=60, deadline=None)
def test_engines_agree_at_every_size(coding, size_bytes, seed):
    stored = noise(size_bytes, seed)
    table, isal = FAST
    assert plain(table.encode(coding, stored)) == plain(isal.encode(coding, stored))


@every_fast_codec
def test_every_short_size_is_right(codec):
    # Vector code takes another way for each tail; the reference has none.
    coding = coding_of("3+2")
    stored = noise(600, 1)
    for size_bytes in range(1, 600, 3):
        shards = plain(codec.encode(coding, stored[:size_bytes]))
        assert (
            codec.decode(coding, dict(list(enumerate(shards))[2:]), size_bytes)
            == (stored[:size_bytes])
        )
        assert shards == plain(TABLE.encode(coding, stored[:size_bytes]))


@every_fast_codec
@given(coding=CODINGS, size_bytes=st.integers(1, 200_000), seed=SEEDS, data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_k_shards_give_the_stored_bytes(codec, coding, size_bytes, seed, data):
    stored = noise(size_bytes, seed)
    shards = dict(enumerate(codec.encode(coding, stored)))
    kept = data.draw(
        st.lists(
            st.sampled_from(range(coding.shard_count)),
            min_size=coding.data_count,
            max_size=coding.shard_count,
            unique=True,
        )
    )
    assert codec.decode(coding, {index: shards[index] for index in kept}, size_bytes) == stored


@pytest.mark.parametrize("text", ["1+1", "2+1", "3+2", "4+2", "6+3"])
def test_every_loss_pattern_is_survived(text):
    coding = coding_of(text)
    stored = noise(1_001, 7)
    for codec in FAST:
        shards = dict(enumerate(codec.encode(coding, stored)))
        for kept in combinations(shards, coding.data_count):
            assert codec.decode(coding, {index: shards[index] for index in kept}, 1_001) == stored


@every_fast_codec
@given(coding=CODINGS, size_bytes=st.integers(1, 5_000), seed=SEEDS, data=st.data())
@settings(max_examples=60, deadline=None)
def test_rebuilt_shards_are_those_first_written(codec, coding, size_bytes, seed, data):
    shards = dict(enumerate(plain(codec.encode(coding, noise(size_bytes, seed)))))
    order = data.draw(st.permutations(range(coding.shard_count)))
    kept, wanted = order[: coding.data_count], order[coding.data_count :]
    rebuilt = codec.rebuild(coding, {index: shards[index] for index in kept}, wanted)
    assert rebuilt == {index: shards[index] for index in wanted}


@every_fast_codec
@given(first=st.integers(0, 9_999), length=st.integers(1, 3_000))
@settings(max_examples=30, deadline=None)
def test_a_window_is_rebuilt_from_the_same_windows(codec, first, length):
    coding = coding_of("4+2")
    shards = plain(codec.encode(coding, noise(40_000, 3)))
    windows = {index: shards[index][first : first + length] for index in (1, 2, 4, 5)}
    rebuilt = codec.rebuild(coding, windows, [0, 3])
    assert rebuilt == {index: shards[index][first : first + length] for index in (0, 3)}


@every_fast_codec
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_will_do(codec, kind):
    coding = coding_of("3+2")
    stored = noise(10_000, 5)
    framed = b"x" + stored + b"y"
    given_bytes = memoryview(framed)[1:-1] if kind is memoryview else kind(stored)
    shards = codec.encode(coding, given_bytes)
    assert plain(shards) == plain(codec.encode(coding, stored))
    kept = {index: kind(bytes(shards[index])) for index in (0, 3, 4)}
    assert codec.decode(coding, kept, 10_000) == stored


@given(coding=CODINGS, size_bytes=st.integers(0, 10**7))
def test_shards_are_a_kth_rounded_up_and_never_empty(coding, size_bytes):
    size = shard_bytes(size_bytes, coding)
    assert size >= 1
    assert size * coding.data_count >= size_bytes
    assert size == 1 or (size - 1) * coding.data_count < size_bytes


@given(size_bytes=st.integers(1, 3_000), copies=st.integers(2, 9), data=st.data())
def test_replicas_are_full_copies_and_any_one_is_enough(size_bytes, copies, data):
    coding = replicas(copies)
    stored = noise(size_bytes, copies)
    shards = TABLE.encode(coding, stored)
    assert plain(shards) == [stored] * copies
    assert shard_bytes(size_bytes, coding) == size_bytes
    index = data.draw(st.integers(0, copies - 1))
    assert TABLE.decode(coding, {index: shards[index]}, size_bytes) == stored
    assert TABLE.rebuild(coding, {index: shards[index]}, [0]) == {0: stored}


@pytest.mark.parametrize("coding", [coding_of("4+2"), replicas(3)], ids=["coded", "replicas"])
def test_too_few_shards_say_so(coding):
    shards = dict(enumerate(TABLE.encode(coding, b"stripe")))
    kept = {index: shards[index] for index in list(shards)[: coding.data_count - 1]}
    with pytest.raises(StripeUnreadable):
        TABLE.decode(coding, kept, 6)
    with pytest.raises(StripeUnreadable):
        TABLE.rebuild(coding, kept, [0])


@given(wrong=st.integers(0, 40))
def test_shards_of_a_wrong_size_are_refused(wrong):
    assume(wrong != 25)
    coding = coding_of("4+2")
    shards = dict(enumerate(plain(TABLE.encode(coding, bytes(100)))))
    shards[3] = bytes(wrong)
    with pytest.raises(CorruptStripe):
        TABLE.decode(coding, shards, 100)
    with pytest.raises(CorruptStripe):
        TABLE.rebuild(coding, shards, [5])


@every_fast_codec
def test_threads_may_share_a_codec(codec):
    cases = [(coding_of(PROFILES[n % 7]), noise(30_000 + n, n)) for n in range(60)]

    def round_trip(case) -> bool:
        coding, stored = case
        shards = list(enumerate(codec.encode(coding, stored)))[coding.parity_count :]
        return codec.decode(coding, dict(shards), len(stored)) == stored

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(round_trip, cases))


class LyingEngine:
    """Right for all but one byte."""

    name = "lying"

    def combine(self, rows, sources):
        outputs = [bytearray(out) for out in FAST[0]._engine.combine(rows, sources)]
        outputs[-1][-1] ^= 1
        return [bytes(output) for output in outputs]


def test_known_answers_accept_every_real_engine():
    assert all(answers_agree(codec) for codec in [REFERENCE, *FAST])


def test_a_wrong_byte_fails_the_known_answers():
    assert not answers_agree(Codec(LyingEngine(), FIELD))


class LyingDecoder(LyingEngine):
    """Right for parity, wrong for every matrix that brings lost data back."""

    def combine(self, rows, sources):
        if rows == cauchy_rows(FIELD, len(sources), len(rows)):
            return FAST[0]._engine.combine(rows, sources)
        return super().combine(rows, sources)


def test_a_wrong_decoder_fails_the_known_answers():
    assert not answers_agree(Codec(LyingDecoder(), FIELD))


def test_the_fastest_engine_is_chosen():
    assert best_codec().name == FAST[-1].name


@pytest.mark.parametrize("found", [LyingEngine, lambda: None], ids=["disagrees", "missing"])
def test_without_a_right_isal_the_tables_work(monkeypatch, found):
    monkeypatch.setattr(erasure, "load_isal", found)
    assert best_codec().name == "table"


def test_no_right_engine_at_all_is_an_error(monkeypatch):
    monkeypatch.setattr(erasure, "load_isal", LyingEngine)
    monkeypatch.setattr(erasure, "table_codec", lambda field: Codec(LyingEngine(), field))
    with pytest.raises(CorruptStripe):
        best_codec()


@pytest.mark.skipif(ISAL_ENGINE is None, reason="this platform has no ISA-L library")
@pytest.mark.parametrize("text", ["1+1", "2+1", "3+2", "4+2", "6+3", "8+4", "16+8"])
def test_pyeclib_writes_the_same_shards(text):
    ec_iface = pytest.importorskip("pyeclib.ec_iface")
    coding = coding_of(text)
    stored = noise(64_000, 9)
    driver = ec_iface.ECDriver(
        k=coding.data_count, m=coding.parity_count, ec_type="isa_l_rs_cauchy"
    )
    header_bytes = 80
    payloads = [fragment[header_bytes:] for fragment in driver.encode(stored)]
    assert payloads == plain(FAST[-1].encode(coding, stored))


@pytest.mark.skipif(ISAL_ENGINE is None, reason="this platform has no ISA-L library")
def test_the_fast_codec_loads_neither_numpy_nor_pyeclib():
    script = (
        "import sys; from osscore.erasure import best_codec; best_codec();"
        "sys.exit(bool({'numpy', 'pyeclib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-P", "-c", script], timeout=60).returncode == 0


def test_coding_kinds_share_their_first_shard():
    # 1+m written as replicas or as code: a reader of shard 0 sees the same bytes.
    stored = noise(999, 2)
    coded = TABLE.encode(coding_of("1+1"), stored)
    copied = TABLE.encode(Coding(CodingKind.REPLICA, 1, 1), stored)
    assert bytes(coded[0]) == bytes(copied[0]) == stored
