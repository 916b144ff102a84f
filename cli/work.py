"""Work that goes on in the background: told, paused, resumed (`ossctl repair`, `rebalance`)."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cli.api import call
from cli.output import console, errors_as_exit_codes, human_bytes, human_span, print_json


def change(
    work: str, verb: str, directory: Path | None, endpoint: str | None, *, as_json: bool
) -> None:
    """Pause or resume a kind of work."""
    with errors_as_exit_codes():
        found = call(directory, endpoint, "POST", f"/v1/maintenance/{work}/{verb}")
        if as_json:
            print_json(found)
        else:
            said = "rests until it is resumed" if found["paused"] else "goes on"
            console().print(f"{work} {said}", markup=False)


def progress_lines(found: dict[str, Any]) -> Iterable[str]:
    """What all kinds of work tell, for people."""
    tasks = ", ".join(f"{count} {reason}" for reason, count in found["tasks"].items())
    yield f"{human_bytes(found['left_bytes'])} to write, open tasks: {tasks or 'none'}"
    rate = f"{human_bytes(found['bytes_per_s'])}/s written in the last minute"
    if found["eta_s"] is not None:
        rate += f", about {human_span(found['eta_s'])} left"
    yield rate
    moved = found["moved"]
    yield f"{moved['shards']} shards, {human_bytes(moved['bytes'])}, were written anew so far"
    if found["paused"]:
        yield "it is paused"


def drain_lines(disks: Iterable[dict[str, Any]]) -> Iterable[str]:
    """One line for each disk that drains: how full it is, or what comes next."""
    for disk in disks:
        name = f"{disk['node']}/{disk['disk']}"
        if disk["shards"]:
            yield from disk_lines([disk], "is being emptied")
        else:
            yield f"{name} is empty: 'ossctl node remove {name} --yes' takes it out of the cluster"


def disk_lines(disks: Iterable[dict[str, Any]], what: str) -> Iterable[str]:
    """One line a disk."""
    for disk in disks:
        yield (
            f"{disk['node']}/{disk['disk']} {what}: {disk['shards']} shards, "
            f"{human_bytes(disk['bytes'])}"
        )
