"""The label of a disk: a small file that says whose data folder this is.

::

    raftoss-disk 1 <8 hex: CRC32C of the next line, without its newline>\\n
    {"uuid": ..., "cluster_id": ..., "epoch": ..., "generation": ..., "index": ...}\\n

It is replaced atomically, so a crash leaves the old or the new one. `epoch` belongs to
SAFETY rule 15, (`generation`, `index`) of the highest delete order to rule 16.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from osscore.digests import crc32c
from osscore.errors import DiskFailing, DiskRefused, StaleOrder
from ossd.clock import RandomBytes
from ossd.disk import Disk, read_file, write_file_atomically

LABEL_NAME = "disk.label"
LOCK_NAME = "disk.lock"
_MAGIC = "raftoss-disk 1"
_ALLOWED_WHEN_EMPTY = frozenset({LOCK_NAME, LABEL_NAME + ".tmp", "lost+found"})


class _LabelJson(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    uuid: str
    cluster_id: str
    epoch: int
    generation: int
    index: int


@dataclass(frozen=True, slots=True)
class Label:
    """What a disk remembers about itself. `order`: highest (generation, applied index) of a
    delete order it has seen."""

    uuid: bytes
    cluster_id: bytes
    epoch: int = 0
    order: tuple[int, int] = (0, 0)

    def raised(self, order: tuple[int, int]) -> "Label":
        """This label after seeing `order`. Raises StaleOrder if a higher one was seen."""
        if order < self.order:
            raise StaleOrder(f"Delete order {order} comes after {self.order} was seen.")
        return replace(self, order=order)


def encode(label: Label) -> bytes:
    """The label's bytes on disk."""
    line = msgspec.json.encode(
        _LabelJson(
            uuid=label.uuid.hex(),
            cluster_id=label.cluster_id.hex(),
            epoch=label.epoch,
            generation=label.order[0],
            index=label.order[1],
        )
    )
    return f"{_MAGIC} {crc32c(line):08x}\n".encode() + line + b"\n"


def decode(data: bytes) -> Label:
    """Inverse of encode. Raises DiskFailing if a bit of it differs from what was written."""
    head, _, rest = data.partition(b"\n")
    line = rest.removesuffix(b"\n")
    if head != f"{_MAGIC} {crc32c(line):08x}".encode():
        raise DiskFailing(f"The disk's label {LABEL_NAME} is damaged.")
    try:
        found = msgspec.json.decode(line, type=_LabelJson)
        uuid, cluster_id = bytes.fromhex(found.uuid), bytes.fromhex(found.cluster_id)
    except (msgspec.MsgspecError, ValueError) as error:
        raise DiskFailing(f"The disk's label {LABEL_NAME} is not understood.") from error
    return Label(uuid, cluster_id, found.epoch, (found.generation, found.index))


def read_label(disk: Disk, folder: Path) -> Label | None:
    """The folder's label, or None if it is empty and may be formatted.

    Raises DiskRefused for a folder with something else in it, DiskFailing for a damaged
    label, OSError.
    """
    if disk.exists(folder / LABEL_NAME):
        return decode(read_file(disk, folder / LABEL_NAME))
    strangers = set(disk.names(folder)) - _ALLOWED_WHEN_EMPTY
    if strangers:
        raise DiskRefused(
            f"{folder} is no disk of this store and is not empty (it has {min(strangers)!r})."
        )
    return None


def write_label(disk: Disk, folder: Path, label: Label) -> None:
    """Replace the folder's label; durable on return. Raises OSError."""
    write_file_atomically(disk, folder / LABEL_NAME, encode(label))


def format_disk(disk: Disk, folder: Path, cluster_id: bytes, random: RandomBytes) -> Label:
    """Give an empty folder a new identity in that cluster; durable on return."""
    label = Label(uuid=random(16), cluster_id=cluster_id)
    write_label(disk, folder, label)
    return label
