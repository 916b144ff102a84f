"""`ossctl reencode ...`: stripes encoded anew, for other profiles and where nodes were missing."""

from collections.abc import Iterable
from typing import Annotated, Any
from urllib.parse import quote

import typer

from cli.api import call
from cli.cluster import AsJson, Dir, Endpoint
from cli.output import console, errors_as_exit_codes, human_bytes, human_span, print_json
from cli.target import parse_bucket
from cli.work import change

app = typer.Typer(no_args_is_help=True, help="Stripes that are encoded anew.")
PATH = "/v1/maintenance/reencode"


@app.callback()
def group() -> None:
    """Stripes that are encoded anew."""


@app.command()
def status(
    bucket: Annotated[str | None, typer.Argument(help="Only this one's.")] = None,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Show what is encoded anew and how it gets on."""
    with errors_as_exit_codes():
        asked = f"?bucket={quote(parse_bucket(bucket))}" if bucket else ""
        found = call(directory, endpoint, "GET", PATH + asked)
        if as_json:
            print_json(found)
            return
        for line in _lines(found):
            console().print(line, markup=False)


@app.command()
def cancel(
    bucket: Annotated[str, typer.Argument(help="Whose job is to end.")],
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """End a bucket's job where it is; what is done stays."""
    with errors_as_exit_codes():
        path = f"{PATH}/cancel?bucket={quote(parse_bucket(bucket))}"
        done = call(directory, endpoint, "POST", path)
        if as_json:
            print_json(done)
        else:
            console().print(f"bucket {bucket} stays as far as it is", markup=False)


@app.command()
def pause(directory: Dir = None, endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """Stop encoding anew until it is resumed."""
    change("reencode", "pause", directory, endpoint, as_json=as_json)


@app.command()
def resume(directory: Dir = None, endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """Go on encoding anew."""
    change("reencode", "resume", directory, endpoint, as_json=as_json)


def _lines(found: dict[str, Any]) -> Iterable[str]:
    for job in found["jobs"]:
        yield _job_line(job)
        if job["left"] and job["left"]["waits"]:
            yield f"  waits: {job['left']['waits']}"
    replicas = found["replicas"]
    if replicas["stripes"]:
        yield f"{replicas['stripes']} stripes are copies written while nodes were missing"
        if replicas["waits"]:
            yield f"  wait: {replicas['waits']}"
    yield (
        f"{found['tasks']} tasks are open, {human_bytes(found['bytes_per_s'])}/s in the last"
        f" minute; {found['done']['stripes']} stripes, {human_bytes(found['done']['bytes'])},"
        " were encoded anew so far"
    )
    if found["paused"]:
        yield "it is paused"


def _job_line(job: dict[str, Any]) -> str:
    done, left = job["done"], job["left"]
    line = f"{job['bucket']} -> {job['profile']}: {job['state']}"
    line += f", {done['stripes']} stripes ({human_bytes(done['bytes'])}) done"
    if left is not None:
        so_far = "" if left["surveyed"] else " at least"
        line += f",{so_far} {left['stripes']} ({human_bytes(left['bytes'])}) to do"
    if job["kept_stripes"]:
        line += f", {job['kept_stripes']} kept for others who ask for more"
    if job["eta_s"] is not None:
        line += f", about {human_span(job['eta_s'])} left"
    return line
