"""What the journal promises: nothing durable is lost, nothing damaged is believed."""

import errno
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from osscore.errors import CorruptJournal
from ossd.disk import SystemDisk
from raftmeta.journal import VOTE_FILE, Journal
from raftmeta.journal_record import RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES
from raftmeta.journal_segment import segment_path
from raftmeta.settings import JournalSettings
from tests.fakes.disk import PowerCut, SimulatedDisk

FOLDER = Path("/data/journal")
FIRST = segment_path(FOLDER, 1)
SMALL = JournalSettings(segment_bytes=300, cut_bytes=900, keep_bytes=0, cache_bytes=150)


def fixed_random(size_bytes: int) -> bytes:
    return bytes(range(1, size_bytes + 1))


def new_journal(disk: SimulatedDisk, settings: JournalSettings | None = None) -> Journal:
    return Journal.create(FOLDER, disk=disk, settings=settings, random=fixed_random)


def reopen(disk: SimulatedDisk, settings: JournalSettings | None = None) -> Journal:
    return Journal.open(FOLDER, disk=disk, settings=settings, random=fixed_random)


def contents(journal: Journal) -> list[tuple[int, int, bytes]]:
    first = journal.base_index + 1
    found = journal.entries(first, bytes_max=1 << 30)
    return [(entry.index, entry.term, entry.body) for entry in found]


def filled(disk: SimulatedDisk, count: int = 5) -> Journal:
    journal = new_journal(disk)
    journal.set_term(1, "a")
    for index in range(1, count + 1):
        journal.append(index, 1, b"entry %d" % index)
        journal.sync()
    return journal


# --- what comes back ----------------------------------------------------------------------


def test_journal_comes_back_as_it_was_synced():
    disk = SimulatedDisk()
    journal = filled(disk)
    journal.set_term(2, None)
    journal.truncate(4)
    journal.append(4, 2, b"another")
    journal.sync()
    for seed in range(20):
        after = reopen(disk.power_cut(random.Random(seed)))
        assert contents(after) == contents(journal)
        assert (after.term, after.voted_for, after.synced_index) == (2, None, 4)


def test_journal_may_begin_behind_a_snapshot():
    disk = SimulatedDisk()
    Journal.create(FOLDER, disk=disk, base_index=70, base_term=3, term=5, voted_for="b").close()
    after = reopen(disk)
    assert (after.base_index, after.base_term, after.last_index) == (70, 3, 70)
    assert (after.term, after.voted_for, after.term_at(70), after.term_at(69)) == (5, "b", 3, None)
    with pytest.raises(FileExistsError):
        new_journal(disk)


def test_old_entries_are_read_back_from_disk_and_memory_stays_bounded():
    disk = SimulatedDisk()
    journal = new_journal(disk, SMALL)
    journal.set_term(1, None)
    for index in range(1, 60):
        journal.append(index, 1, b"%04d" % index * 5)
        if index % 3 == 0:
            journal.sync()
    assert len(journal._cache) < 10
    assert [body for _, _, body in contents(journal)] == [b"%04d" % n * 5 for n in range(1, 60)]
    found = journal.entries(10, bytes_max=45, count_max=9)
    assert [entry.index for entry in found] == [10, 11]


def test_term_and_vote_are_durable_on_return():
    disk = SimulatedDisk()
    journal = new_journal(disk)
    journal.set_term(8, "meta-3")
    for seed in range(20):
        after = reopen(disk.power_cut(random.Random(seed)))
        assert (after.term, after.voted_for) == (8, "meta-3")


def test_files_are_private(tmp_path):
    journal = Journal.create(tmp_path / "journal", disk=SystemDisk())
    journal.close()
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "journal").iterdir()}
    assert modes == {"journal-0000000001": 0o600, "vote": 0o600}


# --- golden bytes -------------------------------------------------------------------------


def test_bytes_on_disk_are_those_of_the_format_description():
    disk = SimulatedDisk()
    journal = new_journal(disk)
    journal.set_term(2, "meta-1")
    journal.append(1, 1, b"\x01")
    journal.sync()
    journal.append(2, 2, b"\x00blob")
    journal.sync()
    journal.truncate(2)
    journal.close()
    assert disk.content(FOLDER / VOTE_FILE).hex() == GOLDEN_VOTE
    assert disk.content(FIRST).hex() == GOLDEN_SEGMENT


GOLDEN_VOTE = "4f5353564f544531020000000000000006006d6574612d31e07c0161"
GOLDEN_SEGMENT = (
    "4f53534a524e4c310100000000000000000000000000000000000000000000000102030405060708"
    "066ffc22a54a520131178a4f01010000000000000001000000000000002c00000000000000010000"
    "0001a54a520122ea68ed010200000000000000020000000000000052000000000000000500000000"
    "626c6f62a54a5201a6429e7902020000000000000001000000000000007c00000000000000000000"
    "00a54a5201fc6e86be0300000000000000000000000000000000a10000000000000000000000"
)


# --- torn writes and damage ----------------------------------------------------------------


def test_file_cut_at_any_byte_of_an_unsynced_tail_keeps_all_that_was_synced():
    disk = SimulatedDisk()
    journal = filled(disk, 3)
    synced_bytes = len(disk.content(FIRST))
    journal.append(4, 1, b"never synced")
    journal.append(5, 1, b"nor this")
    journal._segments[-1].flush()
    size_bytes = len(disk.content(FIRST))
    for cut_at in range(synced_bytes, size_bytes + 1):
        after = disk.power_cut(random.Random(0))
        after._file(FIRST).content[:] = disk.content(FIRST)[:cut_at]
        found = contents(reopen(after))
        assert found[:3] == contents(journal)[:3] and found == contents(journal)[: len(found)]


def test_file_cut_below_what_was_marked_as_synced_refuses_to_open():
    disk = SimulatedDisk()
    journal = filled(disk, 3)
    journal.mark()
    whole = disk.content(FIRST)
    marked = len(whole) - RECORD_HEADER_BYTES
    last_entry_at = marked - RECORD_HEADER_BYTES - len(b"entry 3")
    for cut_at in range(last_entry_at):
        if cut_at >= SEGMENT_HEADER_BYTES and reopens(disk, whole[:cut_at]):
            # Only whole records may be missing without a witness: none is left.
            assert marks_of(whole[:cut_at]) <= cut_at
    for cut_at in range(SEGMENT_HEADER_BYTES):
        assert not reopens(disk, whole[:cut_at])


def marks_of(data: bytes) -> int:
    from raftmeta.journal_record import parse_header, parse_record, seed_of

    seed = seed_of(parse_header(data, "").salt)
    offset, mark = SEGMENT_HEADER_BYTES, 0
    while (record := parse_record(data, offset, seed)) is not None:
        mark = max(mark, record.synced_bytes)
        offset += record.size_bytes
    return mark


def reopens(disk: SimulatedDisk, data: bytes) -> bool:
    after = disk.power_cut(random.Random(0))
    after._file(FIRST).content[:] = data
    try:
        reopen(after)
    except CorruptJournal:
        return False
    return True


def test_flipped_bit_in_any_durable_record_refuses_to_open_and_says_where():
    disk = SimulatedDisk()
    journal = filled(disk, 4)
    journal.mark()
    end = len(disk.content(FIRST)) - RECORD_HEADER_BYTES
    for offset in range(end):
        after = disk.power_cut(random.Random(0))
        after._file(FIRST).content[:] = disk.content(FIRST)
        after.flip_bit(FIRST, offset, offset % 8)
        with pytest.raises(CorruptJournal, match=r"journal-0000000001: .* offset"):
            reopen(after)


def test_flipped_bit_is_found_when_an_old_entry_is_read_back():
    disk = SimulatedDisk()
    journal = new_journal(disk, SMALL)
    journal.set_term(1, None)
    for index in range(1, 10):
        journal.append(index, 1, b"x" * 50)
        journal.sync()
    disk.flip_bit(FIRST, SEGMENT_HEADER_BYTES + RECORD_HEADER_BYTES + 7)
    with pytest.raises(CorruptJournal, match="offset 44"):
        journal.entries(1, bytes_max=1)


def test_bytes_a_user_stored_never_pass_for_a_record():
    disk = SimulatedDisk()
    other = filled(SimulatedDisk(), 5)
    forged = other._segments[-1]
    forged_bytes = b"".join(
        piece for index in (90, 91) for piece in _record_bytes(index, forged.synced_bytes + 9999)
    )
    journal = filled(disk, 2)
    journal.append(3, 1, forged_bytes)
    journal._segments[-1].flush()
    torn = bytearray(disk.content(FIRST))
    torn[len(torn) - len(forged_bytes) - 20] ^= 1
    after = disk.power_cut(random.Random(0))
    after._file(FIRST).content[:] = torn
    assert reopen(after).last_index == 2


def _record_bytes(index: int, synced_bytes: int) -> tuple[bytes, bytes]:
    from raftmeta.journal_record import ENTRY, Record, pack_record, seed_of

    return pack_record(Record(ENTRY, index, 1, synced_bytes, b"evil"), seed_of(0))


@pytest.mark.parametrize("damage", ["missing", "short", "flipped"])
def test_unreadable_vote_refuses_to_open(damage):
    disk = SimulatedDisk()
    filled(disk).close()
    if damage == "missing":
        disk.unlink(FOLDER / VOTE_FILE)
    elif damage == "short":
        del disk._file(FOLDER / VOTE_FILE).content[-1:]
    else:
        disk.flip_bit(FOLDER / VOTE_FILE, 9)
    with pytest.raises(CorruptJournal, match="vote"):
        reopen(disk)


def test_missing_segment_between_others_refuses_to_open():
    disk = SimulatedDisk()
    journal = new_journal(disk, SMALL)
    journal.set_term(1, None)
    for index in range(1, 30):
        journal.append(index, 1, b"x" * 50)
        journal.sync()
    journal.close()
    disk.unlink(segment_path(FOLDER, 2))
    with pytest.raises(CorruptJournal, match="missing between"):
        reopen(disk)


# --- failing disks ------------------------------------------------------------------------


def test_failed_sync_is_never_retried():
    disk = SimulatedDisk()
    journal = filled(disk, 2)
    journal.append(3, 1, b"x")
    end = disk.fail(lambda operation: 5 if operation.kind == "sync" else None)
    with pytest.raises(OSError):
        journal.sync()
    end()
    for again in (
        journal.sync,
        lambda: journal.append(4, 1, b"y"),
        lambda: journal.set_term(2, ""),
    ):
        with pytest.raises(OSError, match="failed before"):
            again()
    journal.abandon()


def test_what_a_failed_sync_left_in_the_page_cache_is_made_durable_or_dropped_at_start():
    disk = SimulatedDisk()
    journal = filled(disk, 2)
    journal.append(3, 1, b"x")
    end = disk.fail(lambda operation: 5 if operation.kind == "sync" else None)
    with pytest.raises(OSError):
        journal.sync()
    end()
    journal.abandon()
    restarted = reopen(disk)
    assert restarted.synced_index == 3
    for seed in range(20):
        assert reopen(disk.power_cut(random.Random(seed))).last_index == 3


def test_full_disk_stops_the_journal_and_the_next_start_cuts_the_torn_record():
    disk = SimulatedDisk()
    journal = filled(disk, 2)
    journal.append(3, 1, b"x" * 500)
    disk.capacity_bytes = disk.used_bytes() + 100
    with pytest.raises(OSError):
        journal.sync()
    journal.abandon()
    disk.capacity_bytes = 1 << 40
    assert reopen(disk).last_index == 2


def test_disk_that_turns_read_only_stops_the_journal_and_costs_nothing_that_was_synced():
    """ext4 does this after an error; what a kernel had not written is refused from then on."""
    for act in (
        lambda journal: journal.sync(),
        lambda journal: journal.set_term(2, "b"),
        lambda journal: (journal.truncate(2), journal.sync()),
    ):
        disk = SimulatedDisk()
        journal = filled(disk, 3)
        journal.append(4, 1, b"x")
        disk.read_only = True
        with pytest.raises(OSError) as refused:
            act(journal)
        assert refused.value.errno == errno.EROFS
        disk.read_only = False
        with pytest.raises(OSError, match="failed before"):
            journal.sync()
        journal.abandon()
        for seed in range(5):
            after = reopen(disk.power_cut(random.Random(seed)))
            assert contents(after) == [(n, 1, b"entry %d" % n) for n in (1, 2, 3)]
            assert (after.term, after.voted_for) == (1, "a")


def test_journal_on_a_read_only_disk_does_not_open_and_opens_once_it_is_repaired():
    disk = SimulatedDisk()
    filled(disk, 3).close()
    disk.read_only = True
    with pytest.raises(OSError) as refused:
        reopen(disk)
    assert refused.value.errno == errno.EROFS
    disk.read_only = False
    assert reopen(disk).last_index == 3


# --- cutting ------------------------------------------------------------------------------


def test_cut_drops_whole_segments_the_catalog_makes_needless_and_keeps_a_tail():
    disk = SimulatedDisk()
    settings = JournalSettings(segment_bytes=300, cut_bytes=900, keep_bytes=700, cache_bytes=150)
    journal = new_journal(disk, settings)
    journal.set_term(1, None)
    for index in range(1, 41):
        journal.append(index, 1, b"x" * 50)
        journal.sync()
    before = contents(journal)
    assert journal.cut(20) > 0
    assert 0 < journal.base_index <= 20
    assert contents(journal) == before[journal.base_index :]
    journal.cut(40)
    assert journal.size_bytes >= 700
    journal.close()
    after = reopen(disk, settings)
    assert contents(after) == before[after.base_index :] and after.base_term == 1


def test_truncation_below_a_segments_beginning_survives_the_cut_of_those_before():
    disk = SimulatedDisk()
    journal = new_journal(disk, SMALL)
    journal.set_term(1, None)
    for index in range(1, 20):
        journal.append(index, 1, b"x" * 50)
        journal.sync()
    journal.set_term(2, None)
    journal.truncate(5)
    for index in range(5, 40):
        journal.append(index, 2, b"y" * 50)
        journal.sync()
    while True:
        after = reopen(disk.power_cut(random.Random(1)), SMALL)
        assert contents(after) == contents(journal)
        assert (after.base_index, after.base_term) == (journal.base_index, journal.base_term)
        oldest = journal._segments[0]
        if not journal.cut(oldest.index_max):
            break


@given(seed=st.integers(0, 1 << 32), cut_after=st.integers(0, 160))
@hypothesis_settings(max_examples=150, deadline=None)
def test_power_cut_at_any_step_loses_nothing_synced_and_invents_nothing(seed, cut_after):
    """Random appends, truncations, votes, rotations and cuts; the power goes at step N."""
    rng = random.Random(seed)
    disk = SimulatedDisk()
    journal = new_journal(disk, SMALL)
    synced: list[tuple[int, int, bytes]] = []
    volatile: list[tuple[int, int, bytes]] = []
    votes = [(0, None)]
    disk.cut_after = disk.operation_count + cut_after
    try:
        for _ in range(120):
            _random_step(rng, journal, synced, volatile, votes)
    except PowerCut:
        pass
    after = reopen(disk.power_cut(rng), SMALL)
    found = contents(after)
    assert (after.term, after.voted_for) in votes[-2:]
    kept = [entry for entry in synced if entry[0] > after.base_index]
    truncated_to = min((entry[0] for entry in volatile if entry not in synced), default=1 << 60)
    safe = [entry for entry in kept if entry[0] < truncated_to]
    assert found[: len(safe)] == safe
    assert all(entry in volatile or entry in synced for entry in found)


def _random_step(rng, journal, synced, volatile, votes):
    action = rng.choice(("append", "append", "append", "sync", "truncate", "cut", "vote", "mark"))
    if action == "append":
        entry = (journal.last_index + 1, journal.term, rng.randbytes(rng.randint(0, 90)))
        volatile.append(entry)
        journal.append(*entry)
    elif action == "sync":
        journal.sync()
        synced[:] = contents(journal)
        volatile[:] = list(synced)
    elif action == "truncate" and journal.last_index > journal.base_index:
        first = rng.randint(journal.base_index + 1, journal.last_index)
        votes.append((journal.term + 1, None))
        journal.set_term(journal.term + 1, None)
        volatile.append((first, -1, b""))
        journal.truncate(first)
    elif action == "cut":
        journal.cut(rng.randint(0, journal.synced_index))
    elif action == "vote":
        votes.append((journal.term + 1, rng.choice(("a", "b"))))
        journal.set_term(*votes[-1])
    elif action == "mark":
        journal.mark()
