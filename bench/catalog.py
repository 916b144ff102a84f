"""How fast the catalog applies and answers, as JSON on standard output.

python -m bench.catalog [--objects 50000] [--batch 64] [--directory DIR]
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from osscore.model import ObjectAttributes, Profile, Slot, StripeDraft, reed_solomon
from osscore.names import stripe_id
from raftmeta.catalog.catalog import Catalog
from raftmeta.catalog.soft import SoftState
from raftmeta.commands import (
    CreateBucket,
    DiskReport,
    FormCluster,
    InlineBody,
    OpenSession,
    PutObject,
    RegisterNode,
    SessionOpened,
    StripesBody,
)
from raftmeta.entries import AnyCommand, Batch, Entry
from raftmeta.queries import FindObject, ListObjects, ObjectsListed

_START_MS = 1_800_000_000_000
_PROFILE = Profile(4, 2)
_CLUSTER = b"c" * 16
_PAGE = 1000


class Log:
    """Feeds a catalog batch by batch under one session."""

    def __init__(self, catalog: Catalog, batch_size: int) -> None:
        self.catalog = catalog
        self._batch_size = batch_size
        self._index = 0
        self._seq = 0
        opened = self._apply((Entry(0, 0, OpenSession()),))[0]
        assert isinstance(opened, SessionOpened)
        self._session = opened.session

    def run(self, commands: Sequence[AnyCommand]) -> None:
        """Apply all commands in batches."""
        for first in range(0, len(commands), self._batch_size):
            entries = []
            for command in commands[first : first + self._batch_size]:
                self._seq += 1
                entries.append(Entry(self._session, self._seq, command, self._seq - 1000))
            self._apply(tuple(entries))

    def _apply(self, entries: tuple[Entry, ...]) -> Sequence[object]:
        self._index += 1
        batch = Batch(time_ms=_START_MS + self._index, entries=entries)
        return self.catalog.apply(self._index, msgspec.msgpack.encode(batch))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=50_000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--directory", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        catalog = Catalog(Path(directory) / "catalog.sqlite")
        try:
            print(json.dumps(measure(catalog, options.objects, options.batch), indent=2))
        finally:
            catalog.close()


def measure(catalog: Catalog, count: int, batch_size: int) -> dict[str, float]:
    """Rates a second over `count` inline objects and a fifth as many coded ones."""
    log = Log(catalog, batch_size)
    log.run(_setting())
    inline = [_inline(number) for number in range(count)]
    coded = [_coded(number) for number in range(count // 5)]
    found = [f"inline/{number * 7919 % count:09d}" for number in range(min(count, 20_000))]
    return {
        "batch": batch_size,
        "put_inline_per_s": _rate(len(inline), lambda: log.run(inline)),
        "put_stripe_4+2_per_s": _rate(len(coded), lambda: log.run(coded)),
        "put_duplicate_per_s": _rate(len(coded), lambda: log.run(_again(coded))),
        "find_inline_per_s": _rate(len(found), lambda: _find(catalog, found)),
        "find_stripe_per_s": _rate(
            len(coded), lambda: _find(catalog, [command.key for command in coded])
        ),
        "find_16_a_request_per_s": _rate(len(found), lambda: _find(catalog, found, together=16)),
        "list_keys_per_s": _rate(count, lambda: _list(catalog)),
        "checkpoint_s": 1 / _rate(1, catalog.checkpoint),
    }


def _setting() -> list[AnyCommand]:
    nodes: list[AnyCommand] = [
        RegisterNode(
            node=f"blob-{number}",
            url=f"http://blob-{number}",
            zone="",
            cluster_id=_CLUSTER,
            disks=(DiskReport(uuid=bytes([number]) * 16, epoch=0, capacity_bytes=1),),
        )
        for number in range(1, 7)
    ]
    form = FormCluster(
        cluster_id=_CLUSTER,
        catalog_key_wrapped=b"",
        root_access_key="root",
        root_secret_sealed=b"",
        system_token_digest=b"",
    )
    return [form, *nodes, CreateBucket(bucket="bench")]


def _inline(number: int) -> PutObject:
    return PutObject(
        bucket="bench",
        key=f"inline/{number:09d}",
        attributes=ObjectAttributes(size_bytes=100, sha256=number.to_bytes(32, "big")),
        body=InlineBody(data=bytes(100)),
    )


def _coded(number: int, attempt: int = 0) -> PutObject:
    draft = StripeDraft(
        stripe=stripe_id(_START_MS, attempt.to_bytes(2, "big") + number.to_bytes(8, "big")),
        profile=_PROFILE,
        domain=b"",
        digest=number.to_bytes(32, "big"),
        plain_bytes=1 << 20,
        stored_bytes=1 << 20,
        stored_crc=number,
        frames=(),
        coding=reed_solomon(_PROFILE),
        shard_bytes=1 << 18,
        shard_crcs=(1, 2, 3, 4, 5, 6),
        slots=tuple(Slot(index, 0, index + 1) for index in range(6)),
    )
    return PutObject(
        bucket="bench",
        key=f"coded/{number:09d}",
        attributes=ObjectAttributes(size_bytes=1 << 20, sha256=number.to_bytes(32, "big")),
        body=StripesBody(stripes=(draft,)),
    )


def _again(commands: Sequence[PutObject]) -> list[AnyCommand]:
    return [_coded(number, attempt=1) for number in range(len(commands))]


def _find(catalog: Catalog, keys: Sequence[str], together: int = 1) -> None:
    soft = SoftState()
    for first in range(0, len(keys), together):
        wanted = keys[first : first + together]
        catalog.answer([FindObject(bucket="bench", key=key) for key in wanted], soft=soft)


def _list(catalog: Catalog) -> None:
    after: str | None = ""
    while after is not None:
        query = ListObjects(bucket="bench", prefix="inline/", after=after, limit=_PAGE)
        page = catalog.answer([query], soft=SoftState())[0]
        assert isinstance(page, ObjectsListed)
        msgspec.msgpack.encode(page)
        after = page.next


def _rate(count: int, work: Callable[[], object]) -> float:
    begun_s = time.perf_counter()
    work()
    return round(count / (time.perf_counter() - begun_s), 1)


if __name__ == "__main__":
    main()
