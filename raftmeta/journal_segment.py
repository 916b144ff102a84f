"""One file of the Raft journal: made whole, appended to, read back, scanned at start."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from osscore.errors import CorruptJournal
from ossd.disk import Disk, DiskFile, read_file
from raftmeta.journal_record import (
    ENTRY,
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    Record,
    SegmentHeader,
    find_mark_above,
    pack_header,
    pack_record,
    parse_header,
    parse_record,
    seed_of,
)

PREFIX = "journal-"
_TEMPORARY = "journal.tmp"
_FLUSH_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Scan:
    """What reading a segment found: good records lie in [header, good_bytes)."""

    records: tuple[tuple[int, Record], ...]  # (offset, record)
    good_bytes: int
    synced_bytes: int  # known durable by the marks
    torn: bool  # something unmarked lies behind good_bytes


def segment_path(directory: Path, sequence: int) -> Path:
    """Where the segment of that number lies."""
    return directory / f"{PREFIX}{sequence:010d}"


def sequences(disk: Disk, directory: Path) -> list[int]:
    """Numbers of the segments present, ascending."""
    if not disk.exists(directory):
        return []
    names = [name.removeprefix(PREFIX) for name in disk.names(directory) if PREFIX in name]
    return sorted(int(name) for name in names if name.isdecimal())


class Segment:
    """An open segment. Appends are buffered until `flush` or `sync`."""

    def __init__(self, path: Path, header: SegmentHeader, file: DiskFile, size_bytes: int) -> None:
        self.path = path
        self.header = header
        self.size_bytes = size_bytes  # what is still buffered included
        self.synced_bytes = 0
        self.index_max = header.base_index  # highest entry index ever written in or before
        self._seed = seed_of(header.salt)
        self._file = file
        self._pending: list[bytes] = []
        self._pending_bytes = 0

    @classmethod
    def create(cls, directory: Path, header: SegmentHeader, *, disk: Disk) -> "Segment":
        """Make a segment that is durable, name included, on return.

        It gets its name only once its header is on the disk: no crash leaves a segment
        without a good header.
        """
        temporary = directory / _TEMPORARY
        if disk.exists(temporary):
            disk.unlink(temporary)
        file = disk.open(temporary, create=True)
        try:
            file.pwrite([pack_header(header)], 0)
            file.sync()
        finally:
            file.close()
        path = segment_path(directory, header.sequence)
        disk.replace(temporary, path)
        disk.sync_directory(directory)
        segment = cls(path, header, disk.open(path), SEGMENT_HEADER_BYTES)
        segment.synced_bytes = SEGMENT_HEADER_BYTES
        return segment

    @classmethod
    def load(cls, path: Path, *, disk: Disk) -> tuple["Segment", Scan]:
        """Open and scan. Raises CorruptJournal if a bad record lies below a mark."""
        data = read_file(disk, path)
        header = parse_header(data, path.name)
        scan = _scan(data, seed_of(header.salt), path.name)
        segment = cls(path, header, disk.open(path), scan.good_bytes)
        for _offset, record in scan.records:
            if record.kind == ENTRY:
                segment.index_max = max(segment.index_max, record.index)
        return segment, scan

    def harden(self, scan: Scan) -> None:
        """Cut a torn tail and make all that is kept durable; called once after `load`.

        What no mark covers is written again, in place and unchanged: when the process
        before us died of a failed fdatasync, those bytes may be clean in the page cache
        and yet not on the disk, and then a sync alone would write nothing.
        """
        if scan.torn:
            self._file.truncate(scan.good_bytes)
        again = self._file.pread(scan.good_bytes - scan.synced_bytes, scan.synced_bytes)
        if again:
            self._file.pwrite([again], scan.synced_bytes)
        self._file.sync()
        self.synced_bytes = self.size_bytes

    def append(self, kind: int, index: int, term: int, body: bytes = b"") -> int:
        """Buffer one record; answers its offset."""
        offset = self.size_bytes
        record = Record(kind, index, term, self.synced_bytes, body)
        self._pending.extend(pack_record(record, self._seed))
        self._pending_bytes += record.size_bytes
        self.size_bytes += record.size_bytes
        if kind == ENTRY:
            self.index_max = max(self.index_max, index)
        if self._pending_bytes >= _FLUSH_BYTES:
            self.flush()
        return offset

    def flush(self) -> None:
        """Hand buffered records to the operating system; durable only after `sync`."""
        if self._pending:
            self._file.pwrite(self._pending, self.size_bytes - self._pending_bytes)
            self._pending = []
            self._pending_bytes = 0

    def sync(self) -> None:
        """Make everything appended durable."""
        self.flush()
        self._file.sync()
        self.synced_bytes = self.size_bytes

    def read(self, offset: int, body_bytes: int) -> Record:
        """One flushed record. Raises CorruptJournal if it is no longer what was written."""
        data = self._file.pread(RECORD_HEADER_BYTES + body_bytes, offset)
        record = parse_record(data, 0, self._seed)
        if record is None or len(record.body) != body_bytes:
            raise CorruptJournal(f"{self.path.name}: the record at offset {offset} is damaged")
        return record

    @property
    def flushed_bytes(self) -> int:
        """What `read` can reach."""
        return self.size_bytes - self._pending_bytes

    def close(self) -> None:
        """Release the file; implies no sync."""
        self._file.close()


def _scan(data: bytes, seed: int, name: str) -> Scan:
    known = SEGMENT_HEADER_BYTES  # the header was durable before the file got its name
    records = []
    offset = SEGMENT_HEADER_BYTES
    for record in _records(data, seed):
        records.append((offset, record))
        known = max(known, record.synced_bytes)
        offset += record.size_bytes
    if offset < len(data):
        witness = find_mark_above(data, offset, seed)
        if offset < known or witness is not None:
            raise CorruptJournal(
                f"{name}: the record at offset {offset} is damaged, yet it was durable once; "
                "entries this member acknowledged are lost here: re-join it from the others"
            )
    if offset < known:
        raise CorruptJournal(f"{name}: ends at {offset}, yet {known} bytes were durable once")
    return Scan(tuple(records), offset, known, torn=offset < len(data))


def _records(data: bytes, seed: int) -> Iterator[Record]:
    offset = SEGMENT_HEADER_BYTES
    while (record := parse_record(data, offset, seed)) is not None:
        yield record
        offset += record.size_bytes
