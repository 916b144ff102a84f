"""`ossctl rebalance ...`: shards that move to drain disks, spread stripes and even out."""

import typer

from cli.api import call
from cli.cluster import AsJson, Dir, Endpoint
from cli.output import console, errors_as_exit_codes, print_json
from cli.work import change, drain_lines, progress_lines

app = typer.Typer(no_args_is_help=True, help="Shards that move to other disks.")


@app.callback()
def group() -> None:
    """Shards that move to other disks."""


@app.command()
def status(directory: Dir = None, endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """Show what is to be moved and how it gets on."""
    with errors_as_exit_codes():
        found = call(directory, endpoint, "GET", "/v1/maintenance/rebalance")
        if as_json:
            print_json(found)
            return
        draining = [disk for disk in found["disks"] if disk["state"] == "draining"]
        lines = [*progress_lines(found), *drain_lines(draining)]
        for name, said in (
            ("crowded", "have several shards on a node"),
            ("replicas", "are written as copies for want of nodes"),
        ):
            if found["stripes"][name]:
                lines.append(f"{found['stripes'][name]} stripes {said}")
        for line in lines:
            console().print(line, markup=False)


@app.command()
def pause(directory: Dir = None, endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """Stop moving, drains included, until it is resumed."""
    change("rebalance", "pause", directory, endpoint, as_json=as_json)


@app.command()
def resume(directory: Dir = None, endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """Go on moving."""
    change("rebalance", "resume", directory, endpoint, as_json=as_json)
