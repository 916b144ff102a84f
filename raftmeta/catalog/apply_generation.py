"""A new generation of the catalog: how it begins and how its freeze ends (SAFETY rule 16).

The generation number and the freeze themselves are written into the file that a restore
prepares (`restoring`), before any member has it: no entry is ever applied to a restored
catalog that is not frozen.
"""

from osscore.errors import Conflict, NoSuchNode
from raftmeta.catalog.generation import deletion_state
from raftmeta.catalog.transaction import Transaction
from raftmeta.commands import Done
from raftmeta.generations import AdoptGeneration, BeginGeneration, ConfirmCensus


def begin_generation(tx: Transaction, command: BeginGeneration) -> Done:
    """The restored cluster is formed from here on. Refuses Conflict."""
    _require(tx, command.generation)
    if tx.meta.number("restoring"):
        tx.meta.set("restoring", 0)
        tx.meta.set("restored_at_ms", tx.time_ms)
    return Done()


def confirm_census(tx: Transaction, command: ConfirmCensus) -> Done:
    """Note that a disk and the catalog agree. Refuses Conflict, NoSuchNode."""
    _require(tx, command.generation)
    if command.disk not in tx.disks():
        raise NoSuchNode(f"There is no disk {command.disk}.")
    tx.db.execute(
        "INSERT OR REPLACE INTO censuses (disk, generation, confirmed_at_ms) VALUES (?, ?, ?)",
        (command.disk, command.generation, tx.time_ms),
    )
    return Done()


def adopt_generation(tx: Transaction, command: AdoptGeneration) -> Done:
    """Let deletion go on. Refuses Conflict that names the disks without a census."""
    _require(tx, command.generation)
    if not tx.meta.number("frozen"):
        return Done()
    state = deletion_state(
        tx.db,
        generation=command.generation,
        frozen=True,
        restored_at_ms=tx.meta.number("restored_at_ms"),
    )
    if state.confirmed_count < state.disk_count and not command.force:
        named = ", ".join(str(disk) for disk in state.unconfirmed[:10])
        raise Conflict(
            f"{state.disk_count - state.confirmed_count} of {state.disk_count} disks have no"
            f" finished census under generation {command.generation} (disks {named}): what they"
            " hold was not compared with the catalog yet."
        )
    tx.meta.set("frozen", 0)
    return Done()


def _require(tx: Transaction, generation: int) -> None:
    now = tx.meta.number("generation")
    if generation != now:
        raise Conflict(f"The catalog's generation is {now}, not {generation}.")
