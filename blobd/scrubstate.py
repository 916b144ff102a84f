"""How far the scrub of a disk is, kept on the disk: `scrub.json` beside its label.

A pass rereads every volume that was there when it began, those reread longest ago first. A
volume's time is that at which its rereading began, so everything that lay in it then was good
at that time or later. Younger volumes wait for the next pass: what is written into them was
checked as it came, and what compaction moves is checked as it moves.

Times are wall-clock ms of the daemon, 0 for never. Losing the file costs rereading, nothing else.
"""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from blobd.volumerecords import Volume
from ossd.disk import Disk, read_file, write_file_atomically

STATE_NAME = "scrub.json"

log = logging.getLogger(__name__)


class ScrubState(msgspec.Struct, frozen=True, kw_only=True):
    """Where a disk's scrub stands.

    `verified_at_ms` by name of volume. `volume` is being reread since `volume_began_at_ms`, up
    to the record at `offset`; empty: none. `pass_began_at_ms` 0: it rests. The pass covers
    volumes up to number `pass_last`; `pass_bytes` were reread in it, `pass_bad` records of it
    were bad. `last_*`: the last whole pass.
    """

    verified_at_ms: dict[str, int] = {}
    volume: str = ""
    offset: int = -1
    volume_began_at_ms: int = 0
    pass_began_at_ms: int = 0
    pass_last: int = 0
    pass_bytes: int = 0
    pass_bad: int = 0
    last_began_at_ms: int = 0
    last_finished_at_ms: int = 0
    last_bytes: int = 0
    last_bad: int = 0
    is_paused: bool = False


_replace = msgspec.structs.replace


def begun(state: ScrubState, volumes: Sequence[Volume], now_ms: int) -> ScrubState:
    """A new pass over these volumes; what was under way is given up."""
    there = {volume.name for volume in volumes}
    # A time that has not come yet was told by a clock that was wrong: it says nothing.
    verified = {
        name: at_ms
        for name, at_ms in state.verified_at_ms.items()
        if name in there and at_ms <= now_ms + 1
    }
    # Later than any of them, or a volume would count as reread in this pass.
    began_at_ms = max(now_ms, 1 + max(verified.values(), default=0))
    return _replace(
        state,
        verified_at_ms=verified,
        volume="",
        offset=-1,
        volume_began_at_ms=0,
        pass_began_at_ms=began_at_ms,
        pass_last=max((volume.number for volume in volumes), default=0),
        pass_bytes=0,
        pass_bad=0,
    )


def left_of(state: ScrubState, volumes: Iterable[Volume]) -> list[Volume]:
    """The volumes of the pass that are not reread yet, in their order."""
    left = [
        volume
        for volume in volumes
        if volume.number <= state.pass_last
        and state.verified_at_ms.get(volume.name, 0) < state.pass_began_at_ms
    ]
    return sorted(left, key=lambda v: (state.verified_at_ms.get(v.name, 0), v.number))


def entered(state: ScrubState, volume: Volume, now_ms: int) -> ScrubState:
    """A volume's rereading begins."""
    # Not before its pass, though the clock was set back: the pass would never end.
    began_at_ms = max(now_ms, state.pass_began_at_ms)
    return _replace(state, volume=volume.name, offset=-1, volume_began_at_ms=began_at_ms)


def left_behind(state: ScrubState) -> ScrubState:
    """The present volume was reread to its end."""
    verified = {**state.verified_at_ms, state.volume: state.volume_began_at_ms}
    return _replace(state, verified_at_ms=verified, volume="", offset=-1, volume_began_at_ms=0)


def ended(state: ScrubState, volumes: Iterable[Volume], now_ms: int) -> ScrubState:
    """The pass is whole."""
    there = {volume.name for volume in volumes}
    return _replace(
        state,
        verified_at_ms={n: at for n, at in state.verified_at_ms.items() if n in there},
        volume="",
        offset=-1,
        pass_began_at_ms=0,
        last_began_at_ms=state.pass_began_at_ms,
        last_finished_at_ms=now_ms,
        last_bytes=state.pass_bytes,
        last_bad=state.pass_bad,
    )


def verified_at_ms(state: ScrubState, volume: str, offset: int) -> int:
    """When the record that lies at this offset of a volume was seen to be good: then, or later
    by being written. 0: not reread yet."""
    if volume == state.volume and offset <= state.offset:
        return state.volume_began_at_ms
    return state.verified_at_ms.get(volume, 0)


def left_bytes(state: ScrubState, volumes: Iterable[Volume]) -> int:
    """What the pass has yet to reread; of the volume under way by how far it is."""
    if not state.pass_began_at_ms:
        return 0
    total = 0.0
    for volume in left_of(state, volumes):
        done = 0.0
        if volume.name == state.volume and volume.size_bytes:
            done = min(1.0, max(0, state.offset) / volume.size_bytes)
        total += volume.live_bytes * (1 - done)
    return int(total)


def read_state(disk: Disk, folder: Path) -> ScrubState:
    """What was kept; a fresh one if there is none, or none that is understood."""
    try:
        return msgspec.json.decode(read_file(disk, folder / STATE_NAME), type=ScrubState)
    except (OSError, msgspec.MsgspecError):
        return ScrubState()


def keep_state(disk: Disk, folder: Path, state: ScrubState) -> None:
    """Replace the file. That it cannot be written is logged and costs nothing but rereading:
    a full or read-only disk is still worth being read."""
    try:
        write_file_atomically(disk, folder / STATE_NAME, msgspec.json.encode(state))
    except OSError as error:
        log.warning("scrub_position_lost", extra={"reason": str(error), "folder": str(folder)})
