"""Judgements on disks, their draining, and which work is paused (SAFETY rules 9 and 23)."""

from osscore.errors import Conflict, InvalidArgument, NoSuchNode
from raftmeta.catalog.transaction import Transaction
from raftmeta.commands import Done
from raftmeta.healing import WORKS, DrainDisk, JudgeDisk, PauseWork


def judge_disk(tx: Transaction, command: JudgeDisk) -> Done:
    """Make a disk lost, or what it was before. Refuses NoSuchNode."""
    state, drains = _find(tx, command.disk)
    if state == "removed" or command.is_lost == (state == "lost"):
        return Done()
    back = "draining" if drains else "in"
    judged = "lost" if command.is_lost else back
    tx.db.execute("UPDATE disks SET state = ? WHERE disk = ?", (judged, command.disk))
    # Its owner is back, or is judged so: an older state of it is compared no more.
    tx.db.execute("DELETE FROM rejoins WHERE disk = ?", (command.disk,))
    tx.forget_disks()
    return Done()


def drain_disk(tx: Transaction, command: DrainDisk) -> Done:
    """Begin to empty a disk, or stop it. Refuses NoSuchNode, Conflict."""
    state, _ = _find(tx, command.disk)
    if state == "removed":
        raise Conflict("The disk was removed from the cluster.")
    if state != "lost":
        state = "draining" if command.drains else "in"
    tx.db.execute(
        "UPDATE disks SET state = ?, drains = ? WHERE disk = ?",
        (state, int(command.drains), command.disk),
    )
    tx.forget_disks()
    return Done()


def pause_work(tx: Transaction, command: PauseWork) -> Done:
    """Refuses InvalidArgument."""
    if command.work not in WORKS:
        raise InvalidArgument(f"What can be paused is one of {', '.join(WORKS)}.")
    tx.meta.set(f"{command.work}_paused", int(command.paused))
    return Done()


def _find(tx: Transaction, disk: int) -> tuple[str, bool]:
    """Its state, and whether it drains."""
    found = tx.db.execute("SELECT state, drains FROM disks WHERE disk = ?", (disk,)).fetchone()
    if found is None:
        raise NoSuchNode(f"There is no disk {disk}.")
    return found[0], bool(found[1])
