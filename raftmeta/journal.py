"""The Raft log, term and vote of one member, on disk (docs/formats/journal.md).

Invariants:
- nothing is reported in `synced_index` that a power cut could still take;
- term and vote are durable when `set_term` returns;
- a journal that lost anything it once knew durable refuses to open (SAFETY rule 12);
- after a failed write or sync nothing more is written (SAFETY rule 13).

The log begins behind a base (index, term): what lies before is in the catalog. Segments
are only ever appended to and dropped whole, oldest first, so cutting the log copies
nothing and no step of it can tear.
"""

import threading
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from osscore.errors import CorruptJournal
from ossd.clock import RandomBytes, system_random
from ossd.disk import Disk, read_file, write_file_atomically
from raftmeta.journal_record import (
    ENTRY,
    MARK,
    RECORD_HEADER_BYTES,
    TRUNCATE,
    Record,
    SegmentHeader,
    pack_vote,
    parse_vote,
)
from raftmeta.journal_segment import Scan, Segment, segment_path, sequences
from raftmeta.settings import JournalSettings

VOTE_FILE = "vote"


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One entry of the replicated log."""

    index: int
    term: int
    body: bytes


class Journal:
    """Owned by one thread, but for `term_at`; the caller holds the lock on the folder."""

    def __init__(
        self, directory: Path, *, disk: Disk, settings: JournalSettings, random: RandomBytes
    ) -> None:
        self._directory = directory
        self._disk = disk
        self._settings = settings
        self._random = random
        self._segments: list[Segment] = []
        self.term = 0
        self.voted_for: str | None = None
        self.base_index = 0
        self.base_term = 0
        self.synced_index = 0
        # One slot an entry, entry base_index + 1 first.
        self._terms = array("Q")
        self._sequences = array("Q")
        self._offsets = array("Q")
        self._lengths = array("Q")
        self._cache: dict[int, bytes] = {}
        self._cached_bytes = 0
        self._dirty = False
        self._failed = False
        self._shifting = threading.Lock()  # base and columns change together

    # --- making and opening -----------------------------------------------------------

    @classmethod
    def create(
        cls,
        directory: Path,
        *,
        disk: Disk,
        base_index: int = 0,
        base_term: int = 0,
        term: int = 0,
        voted_for: str | None = None,
        settings: JournalSettings | None = None,
        random: RandomBytes = system_random,
    ) -> "Journal":
        """A new journal behind (base_index, base_term), durable on return.

        Whoever replaces the journal of a member passes the higher of its own term and the
        new one, and its own vote if that is its own term: a forgotten vote may be cast
        twice. Raises FileExistsError if there is a journal.
        """
        if sequences(disk, directory):
            raise FileExistsError(f"{directory} holds a journal")
        disk.make_directory(directory)
        disk.sync_directory(directory.parent)
        write_file_atomically(disk, directory / VOTE_FILE, pack_vote(term, voted_for))
        journal = cls(directory, disk=disk, settings=settings or JournalSettings(), random=random)
        journal.term, journal.voted_for = term, voted_for
        journal.base_index = journal.synced_index = base_index
        journal.base_term = base_term
        journal._add_segment(1)
        return journal

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        disk: Disk,
        settings: JournalSettings | None = None,
        random: RandomBytes = system_random,
    ) -> "Journal":
        """Read a journal back; all of it is durable on return.

        Raises CorruptJournal, saying what and where, if anything is missing or damaged
        that was durable once.
        """
        journal = cls(directory, disk=disk, settings=settings or JournalSettings(), random=random)
        try:
            journal._load()
        except BaseException:
            journal._close_files()
            raise
        return journal

    @staticmethod
    def exists(directory: Path, *, disk: Disk) -> bool:
        """Whether there is a journal to open."""
        return bool(sequences(disk, directory))

    def _load(self) -> None:
        vote_path = self._directory / VOTE_FILE
        if not self._disk.exists(vote_path):
            raise CorruptJournal(f"{VOTE_FILE}: missing; this member must be re-joined")
        self.term, self.voted_for = parse_vote(read_file(self._disk, vote_path), VOTE_FILE)
        found = sequences(self._disk, self._directory)
        if not found:
            raise CorruptJournal("there is no journal segment; this member must be re-joined")
        if found != list(range(found[0], found[-1] + 1)):
            raise CorruptJournal(f"journal segments are missing between those found: {found}")
        for sequence in found:
            self._load_segment(sequence, last=sequence == found[-1])
        if self.last_term > self.term:
            raise CorruptJournal(
                f"the journal ends in term {self.last_term}, {VOTE_FILE} says {self.term}"
            )
        self.synced_index = self.last_index

    def _load_segment(self, sequence: int, *, last: bool) -> None:
        path = segment_path(self._directory, sequence)
        segment, scan = Segment.load(path, disk=self._disk)
        first = not self._segments
        self._segments.append(segment)
        header = segment.header
        if header.sequence != sequence:
            raise CorruptJournal(f"{path.name}: its header says segment {header.sequence}")
        if first:
            self.base_index, self.base_term = header.base_index, header.base_term
        elif (header.base_index, header.base_term) != (self.last_index, self.last_term):
            raise CorruptJournal(f"{path.name}: does not continue the segment before it")
        if scan.torn and not last:
            raise CorruptJournal(f"{path.name}: damaged at offset {scan.good_bytes}")
        self._replay(segment, scan)
        if last:
            segment.harden(scan)

    def _replay(self, segment: Segment, scan: Scan) -> None:
        for offset, record in scan.records:
            if record.kind == ENTRY:
                if record.index != self.last_index + 1 or record.term < self.last_term:
                    raise CorruptJournal(
                        f"{segment.path.name}: entry {record.index} of term {record.term} at "
                        f"offset {offset} follows {self.last_index} of {self.last_term}"
                    )
                self._remember(segment, offset, record)
            elif record.kind == TRUNCATE:
                self._forget_from(record.index, record.term)

    # --- reading ------------------------------------------------------------------------

    @property
    def last_index(self) -> int:
        """Index of the last entry, or of the base."""
        return self.base_index + len(self._terms)

    @property
    def last_term(self) -> int:
        """Its term."""
        return self._terms[-1] if self._terms else self.base_term

    def term_at(self, index: int) -> int | None:
        """Term of an entry or of the base; None for what is not in the log. Any thread."""
        with self._shifting:
            if index == self.base_index:
                return self.base_term
            at = index - self.base_index - 1
            return self._terms[at] if 0 <= at < len(self._terms) else None

    def entries(self, first: int, *, bytes_max: int, count_max: int = 1 << 30) -> list[LogEntry]:
        """Entries from `first` on; at least one if there is one, then within the bounds.

        Raises CorruptJournal if one read back from the disk is damaged.
        """
        assert first > self.base_index
        found: list[LogEntry] = []
        total_bytes = 0
        for index in range(first, min(self.last_index, first + count_max - 1) + 1):
            total_bytes += self._lengths[index - self.base_index - 1]
            if found and total_bytes > bytes_max:
                break
            found.append(self._entry(index))
        return found

    def _entry(self, index: int) -> LogEntry:
        at = index - self.base_index - 1
        term = self._terms[at]
        body = self._cache.get(index)
        if body is None:
            segment = self._segment(self._sequences[at])
            record = segment.read(self._offsets[at], self._lengths[at])
            if (record.kind, record.index, record.term) != (ENTRY, index, term):
                raise CorruptJournal(f"{segment.path.name}: another record than entry {index}")
            body = record.body
        return LogEntry(index, term, body)

    def _segment(self, sequence: int) -> Segment:
        return self._segments[sequence - self._segments[0].header.sequence]

    @property
    def size_bytes(self) -> int:
        """All segments together. Any thread."""
        return sum(segment.size_bytes for segment in tuple(self._segments))

    # --- writing ------------------------------------------------------------------------

    def append(self, index: int, term: int, body: bytes) -> None:
        """Add the next entry; durable after `sync`."""
        assert index == self.last_index + 1 and self.last_term <= term <= self.term
        with self._writing():
            segment = self._segments[-1]
            offset = segment.append(ENTRY, index, term, body)
            self._dirty = True
            self._remember(segment, offset, Record(ENTRY, index, term, 0, body))

    def truncate(self, first_index: int) -> None:
        """Void every entry from `first_index` on (another leader's log won)."""
        assert self.base_index < first_index <= self.last_index
        previous_term = self.term_at(first_index - 1)
        assert previous_term is not None
        with self._writing():
            self._segments[-1].append(TRUNCATE, first_index, previous_term)
            self._dirty = True
            self._forget_from(first_index, previous_term)

    def sync(self) -> None:
        """Make all entries and truncations durable. An OSError here is final."""
        if not self._dirty:
            return
        with self._writing():
            self._segments[-1].sync()
            self._dirty = False
            self.synced_index = self.last_index
            if self._segments[-1].size_bytes > self._settings.segment_bytes:
                self._add_segment(self._segments[-1].header.sequence + 1)

    def mark(self) -> None:
        """When idle: note on disk that all is synced, so that later damage to the last
        entries is told from a torn write. Costs no sync."""
        last = self._segments[-1]
        if not self._dirty and last.size_bytes == last.synced_bytes:
            with self._writing():
                last.append(MARK, 0, 0)
                last.flush()

    def set_term(self, term: int, voted_for: str | None) -> None:
        """Adopt a term and a vote in it, durable on return."""
        assert term > self.term or (term == self.term and self.voted_for in (None, voted_for)), (
            "a term never falls and a vote never changes"
        )
        with self._writing():
            path = self._directory / VOTE_FILE
            write_file_atomically(self._disk, path, pack_vote(term, voted_for))
        self.term, self.voted_for = term, voted_for

    def cut(self, durable_index: int) -> int:
        """Drop the oldest segments whose entries the catalog holds durably.

        Keeps at least `keep_bytes`. Answers the number of bytes given back.
        """
        freed = 0
        while len(self._segments) > 1:
            oldest = self._segments[0]
            rest_bytes = self.size_bytes - oldest.size_bytes
            if oldest.index_max > durable_index or rest_bytes < self._settings.keep_bytes:
                break
            self._drop_oldest()
            freed += oldest.size_bytes
        return freed

    def close(self) -> None:
        """Make everything durable, note that it is, and release the files."""
        try:
            if not self._failed:
                self.sync()
                self.mark()
                with self._writing():
                    self._segments[-1].sync()
        finally:
            self._close_files()

    def abandon(self) -> None:
        """Release the files after a failure; writes nothing."""
        self._failed = True
        self._close_files()

    # --- inside -------------------------------------------------------------------------

    def _writing(self) -> "_FailStop":
        if self._failed:
            raise OSError("the journal failed before; restart the process")
        return _FailStop(self)

    def _add_segment(self, sequence: int) -> None:
        salt = int.from_bytes(self._random(8), "little")
        header = SegmentHeader(sequence, self.last_index, self.last_term, salt)
        self._segments.append(Segment.create(self._directory, header, disk=self._disk))

    def _drop_oldest(self) -> None:
        oldest = self._segments[0]
        with self._writing():
            self._disk.unlink(oldest.path)
            # One at a time: a power cut that kept an older and lost a younger segment
            # would leave a gap, which reads as damage.
            self._disk.sync_directory(self._directory)
        oldest.close()
        self._segments.pop(0)
        gone = 0
        while gone < len(self._sequences) and self._sequences[gone] == oldest.header.sequence:
            self._uncache(self.base_index + gone + 1)
            gone += 1
        if gone:
            with self._shifting:
                self.base_term = self._terms[gone - 1]
                self.base_index += gone
                for column in self._columns():
                    del column[:gone]

    def _columns(self) -> Iterator["array[int]"]:
        yield from (self._terms, self._sequences, self._offsets, self._lengths)

    def _remember(self, segment: Segment, offset: int, record: Record) -> None:
        self._terms.append(record.term)
        self._sequences.append(segment.header.sequence)
        self._offsets.append(offset)
        self._lengths.append(len(record.body))
        self._cache[record.index] = record.body
        self._cached_bytes += RECORD_HEADER_BYTES + len(record.body)
        while self._cached_bytes > self._settings.cache_bytes and len(self._cache) > 1:
            eldest = next(iter(self._cache))
            if not self._is_flushed(eldest):
                break
            self._uncache(eldest)

    def _is_flushed(self, index: int) -> bool:
        at = index - self.base_index - 1
        segment = self._segment(self._sequences[at])
        return self._offsets[at] < segment.flushed_bytes

    def _uncache(self, index: int) -> None:
        body = self._cache.pop(index, None)
        if body is not None:
            self._cached_bytes -= RECORD_HEADER_BYTES + len(body)

    def _forget_from(self, first_index: int, previous_term: int) -> None:
        for index in range(max(first_index, self.base_index + 1), self.last_index + 1):
            self._uncache(index)
        if first_index <= self.base_index:
            # Only while loading: the base was written into a segment's header before these
            # entries were voided, and the segments that hold those below were dropped.
            self.base_index, self.base_term = first_index - 1, previous_term
            keep = 0
        else:
            keep = first_index - self.base_index - 1
        with self._shifting:
            for column in self._columns():
                del column[keep:]
        self.synced_index = min(self.synced_index, self.last_index)

    def _close_files(self) -> None:
        for segment in self._segments:
            segment.close()


class _FailStop:
    """Marks the journal as failed if the block raises: what is on disk is then unknown."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is not None:
            self._journal._failed = True
