"""The audit: who used an administrative right, for what, and with what outcome."""

from typing import Annotated, Any

import typer

from cli.api import call
from cli.cluster import AsJson, Dir, Endpoint
from cli.output import errors_as_exit_codes, human_time, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="Who used an administrative right, for what.")
_PAGE = 1000
_COLUMNS = ("actor", "source", "action", "target", "outcome", "detail")


@app.command()
def ls(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most entries.")] = 50,
    actor: Annotated[str, typer.Option(help="Only of this access key, or system.")] = "",
    action: Annotated[str, typer.Option(help="Only this, such as key.create, or key.")] = "",
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Show the newest entries, the newest last."""
    with errors_as_exit_codes():
        found: list[dict[str, Any]] = []
        after: int | None = 0
        while after is not None and len(found) < limit:
            query = {"newest": "1", "actor": actor, "action": action, "after": str(after)}
            query["limit"] = str(min(limit - len(found), _PAGE))
            page = call(directory, endpoint, "GET", "/v1/audit", query=query)
            found += page["entries"]
            after = page["next"]
        found.reverse()
        if as_json:
            for entry in found:
                print_json(entry)
            return
        print_table(
            ["TIME", "ACTOR", "FROM", "ACTION", "TARGET", "OUTCOME", "DETAIL"],
            [[human_time(entry["at"]), *(entry[name] for name in _COLUMNS)] for entry in found],
        )
