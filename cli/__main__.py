"""The composition of `ossctl`: which verbs there are."""

from collections.abc import Callable
from typing import Annotated

import typer

from cli import (
    audit,
    buckets,
    census,
    cluster,
    docs,
    explain,
    keys,
    listing,
    maintenance,
    meta,
    nodes,
    objects,
    rebalance,
    reencode,
    repair,
    scan,
    scrub,
    share,
    timetravel,
    tokens,
)

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
app.add_typer(keys.app, name="key")
app.add_typer(tokens.app, name="token")
app.add_typer(audit.app, name="audit")
app.add_typer(repair.app, name="repair")
app.add_typer(scrub.app, name="scrub")
app.add_typer(rebalance.app, name="rebalance")
app.add_typer(reencode.app, name="reencode")
app.add_typer(nodes.app, name="node")
app.add_typer(explain.app, name="object")
app.add_typer(meta.app, name="meta")
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
    share.share,
    timetravel.restore_prefix,
    maintenance.prune,
    scan.scan,
    census.census,
    docs.docs,
)
for verb in VERBS:
    app.command()(verb)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"raftoss {version('raftoss')}")
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
