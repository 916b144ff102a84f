"""`ossctl meta ...`: the catalog as a whole: back it up, look through a backup, restore one, make
one of what blob daemons hold.

Backing up and adopting go through a frontend, by an access key. Restoring speaks to empty
metanodes, and rebuilding to blob daemons, which know no keys: by the cluster secret (docs/adr/0016,
0020).
"""

import asyncio
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from cli import api as http
from cli import metanodes
from cli.api import Api
from cli.cluster import AsJson, Dir, Endpoint
from cli.connection import connect
from cli.output import (
    UsageError,
    console,
    errors_as_exit_codes,
    facts,
    human_bytes,
    print_json,
    stderr,
)
from cli.progress import tally
from cli.rebuilding import Rebuilt, find_daemons, rebuild_to
from cli.restoring import Place, find_place, restore_into, start_metanodes, statuses
from osscore.errors import CorruptCatalog
from osscore.times import iso_time
from ossd.disk import SystemDisk

if TYPE_CHECKING:
    from raftmeta.backup.verification import Verified

app = typer.Typer(
    no_args_is_help=True, help="The catalog and its metanodes: members, backup, restore."
)
app.command()(metanodes.status)
app.command()(metanodes.add)
app.command()(metanodes.replace)
app.command()(metanodes.remove)
app.command("transfer-leader")(metanodes.transfer_leader)
File = Annotated[Path, typer.Argument(help="A backup.")]
Members = Annotated[
    list[str] | None,
    typer.Option("--member", help="ID=HOST:RAFTPORT=URL of an empty metanode; once for each."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do it; else only say what would be.")]


@app.callback()
def group() -> None:
    """The catalog and its metanodes: members, backup, restore."""


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="Where to write it; replaced once it is whole.")],
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Write the whole catalog, as it is at one moment, to one file."""
    with errors_as_exit_codes():
        connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
        partial = file.with_name(file.name + ".part")
        try:
            http.run(connection, lambda api: _fetch(api, partial, shown=not as_json))
            manifest = _checked(partial)
            _put_in_place(partial, file)
        finally:
            partial.unlink(missing_ok=True)
        if as_json:
            print_json({"file": str(file), "bytes": file.stat().st_size, **manifest})
        else:
            versions = manifest["counts"]["versions"]
            console().print(
                f"{file}: {human_bytes(file.stat().st_size)}, the catalog at index "
                f"{manifest['applied_index']} with {versions} versions",
                markup=False,
            )


@app.command()
def verify(file: File, as_json: AsJson = False) -> None:
    """Look through a backup: every byte, the tables, and whether the catalog contradicts itself.

    Needs no cluster.
    """
    with errors_as_exit_codes():
        verified = _verified(file)
        if as_json:
            print_json({**_manifest(verified), "faults": verified.faults})
        else:
            _tell(verified)
        if verified.faults:
            raise CorruptCatalog(f"{file} is whole, but its catalog contradicts itself")


@app.command()
def restore(
    file: File,
    member: Members = None,
    yes: Yes = False,
    directory: Dir = None,
    as_json: AsJson = False,
) -> None:
    """Form a cluster of empty metanodes that goes on from a backup, with the same blob folders.

    Without --member: of the local cluster, whose metanodes are started for it. Deletion is frozen
    afterwards until 'ossctl meta adopt'.
    """
    with errors_as_exit_codes():
        verified = _sound(file)
        place = find_place(member or [], directory, os.environ)
        _restore(place, verified, file, yes=yes, as_json=as_json)


@app.command()
def rebuild(
    file: Annotated[Path, typer.Argument(help="Where to write the backup; must not exist.")],
    blob: Annotated[
        list[str] | None, typer.Option(help="Base URL of a blob daemon; once for each.")
    ] = None,
    generation: Annotated[
        int | None, typer.Option(help="Of which generation of the catalog (the newest).")
    ] = None,
    accept_gap: Annotated[
        bool, typer.Option("--accept-gap", help="Also where newer entries are cut off by a gap.")
    ] = False,
    member: Members = None,
    yes: Annotated[bool, typer.Option("--yes", help="Restore it into the metanodes, too.")] = False,
    directory: Dir = None,
    as_json: AsJson = False,
) -> None:
    """Every metanode is lost: make a backup of what blob daemons hold, and with --yes restore it.

    Without --blob: of the local cluster, whose blob daemons are started for it.
    """
    with errors_as_exit_codes():
        if file.exists():
            raise UsageError(f"{file} exists; name a new file")
        if blob and yes and not member:
            raise UsageError("--yes with --blob needs the metanodes: --member")
        daemons = find_daemons(blob or [], directory, os.environ)
        partial = file.with_name(file.name + ".part")
        partial.unlink(missing_ok=True)
        try:
            with tally(shown=not as_json) as line:
                rebuilt = rebuild_to(
                    partial, daemons, generation=generation, accepts_gap=accept_gap, line=line
                )
            verified = _sound(partial)
            _put_in_place(partial, file)
        finally:
            partial.unlink(missing_ok=True)
        if as_json:
            print_json(_rebuilt_json(file, rebuilt))
        else:
            _tell_rebuilt(file, rebuilt)
        if member or not blob:
            place = find_place(member or [], directory, os.environ)
            _restore(place, verified, file, yes=yes, as_json=as_json)


def _restore(place: Place, verified: "Verified", file: Path, *, yes: bool, as_json: bool) -> None:
    place.check_secret(verified)
    if not yes:
        _tell_plan(verified, place, file, as_json=as_json)
        return
    start_metanodes(place, os.environ)
    with tally(shown=not as_json) as line:
        reply = restore_into(place, verified, file, line)
    if as_json:
        print_json(reply)
    else:
        _tell_restored(reply)


@app.command()
def adopt(
    force: Annotated[
        bool, typer.Option("--force", help="Also without a finished census of every disk.")
    ] = False,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Confirm a restored catalog: from here on what it does not name is deleted again.

    Shards of objects that were written after the backup are among that.
    """
    with errors_as_exit_codes():
        found = http.call(directory, endpoint, "POST", "/v1/meta/adopt", send={"force": force})
        if as_json:
            print_json(found)
        else:
            console().print(f"generation {found['generation']} is adopted; deletion goes on")


async def _fetch(api: Api, target: Path, *, shown: bool) -> None:
    with _new_file(target) as out, tally(shown=shown) as line:
        async with api.request("GET", "/v1/meta/backup") as response:
            async for piece in response.content.iter_any():
                out.write(piece)
                line.show(out.tell(), None, human_bytes(out.tell()))
        out.flush()
        await asyncio.to_thread(os.fsync, out.fileno())


def _new_file(path: Path) -> BinaryIO:
    """Readable by its owner only: a backup holds names, small objects and sealed secrets."""
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def _put_in_place(partial: Path, file: Path) -> None:
    partial.replace(file)
    folder = os.open(file.absolute().parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _checked(file: Path) -> dict[str, Any]:
    """The manifest, once every byte was compared with it."""
    import msgspec

    from raftmeta.backup.container import check

    source = SystemDisk().open(file, write=False)
    try:
        return msgspec.structs.asdict(check(source))
    finally:
        source.close()


def _verified(file: Path) -> "Verified":
    from raftmeta.backup.verification import verify as look_through

    with (
        tempfile.TemporaryDirectory(prefix="ossctl-") as work,
        stderr().status("looking through the backup"),
    ):
        return look_through(file, Path(work), disk=SystemDisk())


def _sound(file: Path) -> "Verified":
    verified = _verified(file)
    if verified.faults:
        raise CorruptCatalog(f"{file} contradicts itself: {verified.faults[0]}")
    return verified


def _rebuilt_json(file: Path, rebuilt: Rebuilt) -> dict[str, Any]:
    return {
        "file": str(file),
        "generation": rebuilt.manifest.generation,
        "snapshot_index": rebuilt.chain.snapshot.index,
        "index": rebuilt.chain.end,
        "newest_seen": rebuilt.found.newest_seen,
        "catalog_time_ms": rebuilt.manifest.catalog_time_ms,
        "counts": rebuilt.manifest.counts,
        "disks": len(rebuilt.found.sources),
        "silent": sorted(rebuilt.found.silent),
        "damage": rebuilt.found.damage,
        "other_generations": rebuilt.found.other_generations,
    }


def _tell_rebuilt(file: Path, rebuilt: Rebuilt) -> None:
    out, found, chain = console(), rebuilt.found, rebuilt.chain
    for url, reason in sorted(found.silent.items()):
        out.print(f"not asked: {url}: {reason}", markup=False)
    for words in found.damage:
        out.print(f"not believed: {words}", markup=False)
    if rebuilt.is_short:
        out.print(
            f"entries {chain.end + 1} to {found.newest_seen} are left out: some are missing",
            markup=False,
        )
    for other in found.other_generations:
        out.print(f"there is generation {other}, too: --generation {other}", markup=False)
    out.print(
        f"{file}: the catalog as of entry {chain.end}, "
        f"{iso_time(rebuilt.manifest.catalog_time_ms)}, "
        f"made of a snapshot as of {chain.snapshot.index} and the log behind it, "
        f"from {len(found.sources)} disks",
        markup=False,
    )


def _manifest(verified: "Verified") -> dict[str, Any]:
    import msgspec

    return msgspec.structs.asdict(verified.manifest)


def _tell(verified: "Verified") -> None:
    manifest = verified.manifest
    counts = manifest.counts
    facts(
        {
            "cluster": manifest.cluster_id,
            "index": manifest.applied_index,
            "generation": manifest.generation,
            "made at": iso_time(manifest.made_at_ms),
            "catalog time": iso_time(manifest.catalog_time_ms),
            "made by": f"raftoss {manifest.program}, schema {manifest.schema}",
            "catalog": human_bytes(manifest.size_bytes),
            "holds": f"{counts['buckets']} buckets, {counts['versions']} versions, "
            f"{counts['markers']} delete markers, {counts['stripes']} stripes, "
            f"{counts['access_keys']} access keys",
            "objects": f"{human_bytes(counts['logical_bytes'])} as users see them, "
            f"{human_bytes(counts['stored_bytes'])} as shards",
            "checks": "every byte, every table, every fact kept twice",
        }
    )
    for fault in verified.faults:
        console().print(f"contradiction: {fault}", markup=False)


def _tell_plan(verified: "Verified", place: Place, file: Path, *, as_json: bool) -> None:
    states = statuses(place)
    obstacles: Sequence[str] = [
        f"{name} is {state}" for name, state in states.items() if state not in ("empty", "down")
    ]
    if as_json:
        print_json({**_manifest(verified), "dry_run": True, "metanodes": states})
        return
    _tell(verified)
    for name, state in states.items():
        console().print(f"metanode {name} is {state}", markup=False)
    if obstacles:
        said = f"cannot be restored there: {'; '.join(obstacles)}; all must be empty"
    else:
        said = f"would be restored into these metanodes; 'ossctl meta restore {file} --yes' does it"
    console().print(said, markup=False)


def _tell_restored(reply: dict[str, Any]) -> None:
    console().print(
        f"cluster {reply['cluster_id']} goes on as generation {reply['generation']}.\n"
        "Nothing is deleted until you confirm with 'ossctl meta adopt': look at\n"
        "'ossctl cluster status' first. What was written after the backup has no name any more.",
        markup=False,
    )
