"""The store's erasure code: stored bytes to k+m shards and back.

Systematic Reed-Solomon over GF(256): data shard i is the i-th k-th part of the stored bytes
(the end padded with zeros), parity shard r is row r of `gf256.cauchy_rows` applied to them.
The definition and golden bytes: docs/formats/coding.md. Engines differ in speed, never in
bytes.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Protocol

from osscore.digests import Bytes, crc32c
from osscore.engine_isal import load_isal
from osscore.errors import CorruptStripe, StripeUnreadable
from osscore.gf256 import Gf256, Matrix, cauchy_rows, identity_row, inverted, product
from osscore.model import Coding, CodingKind, Profile, reed_solomon

_MATRICES_MAX = 500


class Engine(Protocol):
    """Bulk arithmetic. Threads may share one."""

    @property
    def name(self) -> str:
        """What metrics and the benchmark call it."""

    def combine(self, rows: Matrix, sources: Sequence[Bytes]) -> list[bytes]:
        """One output a row: the sum over columns of row[column] times sources[column].

        All sources have one length of at least 1; so do the outputs.
        """


def shard_bytes(stored_bytes: int, coding: Coding) -> int:
    """Size of each shard: a k-th of the stored bytes rounded up, at least 1.

    A replica has the whole size.
    """
    return max(1, -(-stored_bytes // coding.data_count))


class Codec:
    """Encodes and decodes with one engine. Threads may share one; nothing is kept of inputs."""

    def __init__(self, engine: Engine, field: Gf256) -> None:
        self._engine = engine
        self._field = field
        self._parity_rows = lru_cache(maxsize=_MATRICES_MAX)(self._make_parity_rows)
        self._recovery = lru_cache(maxsize=_MATRICES_MAX)(self._make_recovery)

    @property
    def name(self) -> str:
        """The engine's name."""
        return self._engine.name

    def encode(self, coding: Coding, stored: Bytes) -> list[Bytes]:
        """All k+m shards in index order, each `shard_bytes` long.

        Data shards are views of `stored` where no padding is needed: the caller must not
        change it while they are in use. Replicas are the same bytes n times.
        """
        data = _split(stored, coding)
        if coding.kind is CodingKind.REPLICA:
            return data * coding.shard_count
        rows = self._parity_rows(coding.data_count, coding.parity_count)
        return [*data, *self._engine.combine(rows, data)]

    def decode(self, coding: Coding, shards: Mapping[int, Bytes], stored_bytes: int) -> bytes:
        """The stored bytes from any k shards.

        Raises StripeUnreadable for fewer than k and CorruptStripe for shards of a wrong size.
        Shards are trusted: check their CRCs before and that of the result after.
        """
        size_bytes = shard_bytes(stored_bytes, coding)
        if any(len(shard) != size_bytes for shard in shards.values()):
            raise CorruptStripe(f"A shard of this stripe has {size_bytes} bytes; one does not.")
        if coding.kind is CodingKind.REPLICA:
            return bytes(memoryview(_any_replica(shards))[:stored_bytes])
        data_indexes = range(coding.data_count)
        lost = [index for index in data_indexes if index not in shards]
        whole = {**shards, **self.rebuild(coding, shards, lost)}
        pieces = [memoryview(whole[index]).cast("B") for index in data_indexes]
        return b"".join(_cut(pieces, stored_bytes))

    def rebuild(
        self, coding: Coding, shards: Mapping[int, Bytes], wanted: Sequence[int]
    ) -> dict[int, bytes]:
        """The shards of the `wanted` indexes from any k others.

        Also works on equal windows of the shards, because byte i of every shard depends on
        byte i of the others alone. Raises StripeUnreadable for fewer than k shards and
        CorruptStripe if their sizes differ.
        """
        if not wanted:
            return {}
        if len({len(shard) for shard in shards.values()}) > 1:
            raise CorruptStripe("The shards of one stripe differ in size.")
        if coding.kind is CodingKind.REPLICA:
            copy = bytes(_any_replica(shards))
            return dict.fromkeys(wanted, copy)
        # Low indexes first: rows of data shards are the simplest to invert.
        used = tuple(sorted(shards))[: coding.data_count]
        if len(used) < coding.data_count:
            raise StripeUnreadable(f"{len(used)} shards are here, {coding.data_count} are needed.")
        rows = self._recovery(coding.data_count, coding.parity_count, used, tuple(wanted))
        outputs = self._engine.combine(rows, [shards[index] for index in used])
        return dict(zip(wanted, outputs, strict=True))

    def _make_parity_rows(self, data_count: int, parity_count: int) -> Matrix:
        return cauchy_rows(self._field, data_count, parity_count)

    def _make_recovery(
        self, data_count: int, parity_count: int, used: tuple[int, ...], wanted: tuple[int, ...]
    ) -> Matrix:
        """Rows that turn the used shards into the wanted ones."""
        data_rows = tuple(identity_row(data_count, index) for index in range(data_count))
        generator = data_rows + self._parity_rows(data_count, parity_count)
        to_data = inverted(self._field, tuple(generator[index] for index in used))
        return product(self._field, tuple(generator[index] for index in wanted), to_data)


def _split(stored: Bytes, coding: Coding) -> list[Bytes]:
    """The data shards: views of `stored`, and padded copies where it ends."""
    size_bytes = shard_bytes(len(stored), coding)
    view = memoryview(stored).cast("B")
    shards: list[Bytes] = []
    for index in range(coding.data_count):
        piece = view[index * size_bytes : (index + 1) * size_bytes]
        is_full = len(piece) == size_bytes
        shards.append(piece if is_full else bytes(piece).ljust(size_bytes, b"\0"))
    return shards


def _any_replica(shards: Mapping[int, Bytes]) -> Bytes:
    """One of the copies, the same one each time."""
    if not shards:
        raise StripeUnreadable("No copy of the stripe is here.")
    return shards[min(shards)]


def _cut(pieces: Sequence[memoryview], size_bytes: int) -> list[memoryview]:
    """The first `size_bytes` of the pieces laid end to end."""
    kept = []
    for piece in pieces:
        kept.append(piece[:size_bytes])
        size_bytes -= len(kept[-1])
    return kept


# CRC32C of the parity shards, one behind the other, of _known_input() under each profile.
_KNOWN_ANSWERS = {
    "1+1": 0xBFF78496,
    "2+1": 0x31BF7F9B,
    "3+2": 0x50026A7A,
    "4+2": 0xF87A89F0,
    "6+3": 0xAE106575,
    "8+4": 0x3E6830FA,
    "16+8": 0xD20E2AAE,
}
_KNOWN_INPUT_BYTES = (37, 20_011)
"""A size below every vector width and one with an odd tail behind many vectors."""


def _known_input(size_bytes: int) -> bytes:
    """Bytes that repeat with the prime period 251."""
    return bytes(index % 251 for index in range(size_bytes))


def answers_agree(codec: Codec) -> bool:
    """Whether a codec gives the bytes that docs/formats/coding.md states, both ways."""
    for text, known_crc in _KNOWN_ANSWERS.items():
        coding = reed_solomon(Profile.parse(text))
        crc = 0
        for size_bytes in _KNOWN_INPUT_BYTES:
            stored = _known_input(size_bytes)
            shards = codec.encode(coding, stored)
            for parity in shards[coding.data_count :]:
                crc = crc32c(parity, crc)
            kept = dict(list(enumerate(shards))[coding.parity_count :])
            if codec.decode(coding, kept, size_bytes) != stored:
                return False
        if crc != known_crc:
            return False
    return True


def best_codec() -> Codec:
    """The fastest codec of this machine whose known answers are right.

    Takes some milliseconds: make one a process. Raises CorruptStripe if not even the table
    engine computes rightly.
    """
    field = Gf256.from_pyfinite()
    isal = load_isal()
    if isal is not None:
        codec = Codec(isal, field)
        if answers_agree(codec):
            return codec
    codec = table_codec(field)
    if not answers_agree(codec):
        raise CorruptStripe("The erasure code fails its known answers on this machine.")
    return codec


def table_codec(field: Gf256) -> Codec:
    """The codec that needs numpy only."""
    from osscore.engine_table import TableEngine

    return Codec(TableEngine(field), field)
