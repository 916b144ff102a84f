from pathlib import Path

import pytest

from blobd import labels
from blobd.labels import Label, decode, encode, format_disk, read_label, write_label
from osscore.errors import DiskFailing, DiskRefused, StaleOrder
from ossd.disk import SystemDisk, write_file_atomically

LABEL = Label(uuid=bytes(range(16)), cluster_id=b"c" * 16, epoch=7, order=(2, 345))
GOLDEN = (
    b"raftoss-disk 1 01805a07\n"
    b'{"uuid":"000102030405060708090a0b0c0d0e0f",'
    b'"cluster_id":"63636363636363636363636363636363","epoch":7,"generation":2,"index":345}\n'
)


def test_label_has_its_golden_bytes():
    assert encode(LABEL) == GOLDEN
    assert decode(GOLDEN) == LABEL


def test_every_flipped_bit_of_a_label_is_noticed():
    for at in range(len(GOLDEN) - 1):
        for bit in range(8):
            damaged = bytearray(GOLDEN)
            damaged[at] ^= 1 << bit
            with pytest.raises(DiskFailing):
                decode(bytes(damaged))


def test_an_empty_folder_is_formatted_once_and_then_keeps_its_label(tmp_path: Path):
    disk = SystemDisk()
    assert read_label(disk, tmp_path) is None
    made = format_disk(disk, tmp_path, b"c" * 16, lambda size: b"r" * size)
    assert made == Label(uuid=b"r" * 16, cluster_id=b"c" * 16)
    write_label(disk, tmp_path, LABEL)
    assert read_label(disk, tmp_path) == LABEL


def test_a_format_cut_off_before_its_rename_leaves_an_empty_folder(tmp_path: Path):
    (tmp_path / (labels.LABEL_NAME + ".tmp")).write_bytes(b"half")
    (tmp_path / labels.LOCK_NAME).touch()
    (tmp_path / "lost+found").mkdir()
    assert read_label(SystemDisk(), tmp_path) is None


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(DiskRefused, match=r"thesis\.tex"):
        read_label(SystemDisk(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_lower_delete_order_is_refused_and_a_higher_one_remembered():
    assert LABEL.raised((2, 345)) == LABEL
    assert LABEL.raised((2, 346)).order == (2, 346)
    assert LABEL.raised((3, 1)).order == (3, 1)  # a new generation starts its own count
    for stale in ((2, 344), (1, 10_000)):
        with pytest.raises(StaleOrder):
            LABEL.raised(stale)


def test_a_label_of_a_newer_format_is_not_guessed_at(tmp_path: Path):
    data = GOLDEN.replace(b"raftoss-disk 1", b"raftoss-disk 2")
    write_file_atomically(SystemDisk(), tmp_path / labels.LABEL_NAME, data)
    with pytest.raises(DiskFailing):
        read_label(SystemDisk(), tmp_path)
