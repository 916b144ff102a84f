"""The composition of `ossctl`: which verbs there are."""

import importlib.metadata
from collections.abc import Callable
from typing import Annotated

import typer

from cli import buckets, cluster, listing, objects

app = typer.Typer(
    name="ossctl",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="raftoss: a self-hosted object store. Start one with 'ossctl up'.",
)
cluster_app = typer.Typer(no_args_is_help=True, help="The cluster as a whole.")
cluster_app.command("status")(cluster.status)
app.add_typer(cluster_app, name="cluster")
app.add_typer(buckets.app, name="bucket")
VERBS: tuple[Callable[..., None], ...] = (
    cluster.up,
    cluster.down,
    cluster.start,
    cluster.stop,
    cluster.kill,
    objects.put,
    objects.get,
    objects.cat,
    listing.ls,
    listing.versions,
    objects.rm,
    objects.undelete,
    objects.stat,
)
for verb in VERBS:
    app.command()(verb)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"raftoss {importlib.metadata.version('raftoss')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """raftoss: a self-hosted object store. Start one with 'ossctl up'."""


def main() -> None:
    """The entry point `ossctl`."""
    app()


if __name__ == "__main__":
    main()
