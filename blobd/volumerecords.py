"""The records of a disk volume by volume, in the order in which they lie there: for rereading."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from blobd.index import Index, State
from blobd.record import identity_key, key_identity
from blobd.volumefiles import VolumeFiles
from osscore.model import ShardIdentity


class Volume(NamedTuple):
    """A volume at a glance. `name` is never given to another one; `live_bytes` of it are
    records that are needed."""

    name: str
    number: int
    size_bytes: int
    live_bytes: int


class Record(NamedTuple):
    """A shard, or a piece of a temp, and where it lies in its volume."""

    identity: ShardIdentity
    offset: int
    size_bytes: int


class RecordPage(NamedTuple):
    """`records` may be fewer than there were rows; `behind` goes on, None: that was all."""

    records: list[Record]
    behind: int | None


def _name(number: int, salt: bytes) -> str:
    return f"{number:08x}-{salt.hex()}"


class VolumeRecords:
    """Reads the index of one disk. Blocks; thread-safe."""

    def __init__(self, files: VolumeFiles, index: Index, *, guarded: Callable[..., Any]) -> None:
        """`guarded(call, *arguments)` calls, and makes an unusable index a DiskFailing."""
        self._files = files
        self._index = index
        self._guarded = guarded

    def volumes(self) -> list[Volume]:
        """Every volume, the oldest first."""
        found = []
        for number, info in sorted(self._files.infos.items()):
            use = self._index.use.get(number)
            live_bytes = use.live_bytes if use is not None else 0
            name = _name(number, info.name.salt)
            found.append(Volume(name, number, info.size_bytes, live_bytes))
        return found

    def places(self, identities: Sequence[ShardIdentity]) -> dict[ShardIdentity, tuple[str, int]]:
        """Volume's name and offset of those that are here and not known to be damaged.

        Raises DiskFailing.
        """
        rows = self._guarded(self._index.find_many, [identity_key(each) for each in identities])
        infos = self._files.infos
        return {
            key_identity(key): (_name(row.volume, infos[row.volume].name.salt), row.offset)
            for key, row in rows.items()
            if row.state == State.LIVE and row.volume in infos
        }

    def settle(self) -> None:
        """Have pages show all that is in the volumes now. Raises DiskFailing."""
        self._guarded(self._index.flush)

    def page(self, number: int, *, behind: int, limit: int) -> RecordPage:
        """Live records of a volume behind an offset, -1 at first. Raises DiskFailing.

        Those that were moved or deleted since `settle` may be among them.
        """
        rows = self._guarded(self._rows, number, behind, limit)
        records = [
            Record(key_identity(key), location.offset, location.size_bytes)
            for key, location in rows
            if location.state != State.DELETED
        ]
        return RecordPage(records, rows[-1][1].offset if len(rows) == limit else None)

    def _rows(self, number: int, behind: int, limit: int) -> list[Any]:
        return self._index.in_volume(number, behind=behind, limit=limit)
