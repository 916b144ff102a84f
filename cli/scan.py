"""`ossctl scan`: every shard of every stripe read and compared, and mended if asked."""

import os
from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from cli import api as http
from cli.api import Api
from cli.cluster import AsJson, Dir, Endpoint
from cli.connection import connect
from cli.output import (
    ExitCode,
    UsageError,
    console,
    errors_as_exit_codes,
    human_bytes,
    print_json,
    print_table,
)
from cli.progress import tally
from cli.steps import steps
from cli.target import parse_bucket
from osscore.errors import StoreError

SHOWN = 20
MENDED = ("repaired", "confirmed")


@dataclass(slots=True)
class Total:
    """What all steps found. `left`: shards that are not as they should be now."""

    stripes: int = 0
    size_bytes: int = 0
    shards: Counter[str] = field(default_factory=Counter)
    damaged: list[dict[str, Any]] = field(default_factory=list)
    unreadable: list[dict[str, Any]] = field(default_factory=list)
    inline: Counter[str] = field(default_factory=Counter)
    inline_corrupt: list[dict[str, Any]] = field(default_factory=list)
    row: int = 0
    last_row: int = 0
    next: str | None = None

    def add(self, step: dict[str, Any]) -> None:
        """Count another step."""
        self.stripes += step["stripes"]
        self.size_bytes += step["bytes"]
        self.shards.update(step["shards"])
        self.damaged += step["damaged"]
        self.unreadable += step["unreadable"]
        inline = step["inline"]
        self.inline.update({name: inline[name] for name in ("checked", "unhashed", "bytes")})
        self.inline_corrupt += inline["corrupt"]
        self.row = max(self.row, step["row"])
        self.last_row = max(self.last_row, step["last_row"])
        self.next = step["next"]

    @property
    def inline_count(self) -> int:
        """Objects looked at that lie in the catalog."""
        return self.inline["checked"] + self.inline["unhashed"]

    @property
    def left(self) -> int:
        """Shards that are not as they should be now."""
        return sum(shard["outcome"] not in MENDED for shard in self.damaged)

    def in_words(self) -> str:
        """On one line, for a progress bar."""
        found = ", ".join(
            f"{self.shards[name]} {name}"
            for name in ("missing", "corrupt", "unreachable", "repaired", "confirmed")
            if self.shards[name]
        )
        said = f"{self.stripes} stripes, {human_bytes(self.size_bytes)}"
        if self.inline_count:
            said += f", {self.inline_count} short objects"
        return f"{said}, {found}" if found else said


def scan(
    bucket: Annotated[str, typer.Argument(help="Only what objects of this bucket need.")] = "",
    prefix: Annotated[str, typer.Option(help="Only what objects with this prefix need.")] = "",
    repair: Annotated[
        bool, typer.Option("--repair", help="Rebuild missing and corrupt shards.")
    ] = False,
    after: Annotated[str, typer.Option(help="Go on behind this, as an earlier scan said.")] = "",
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Read every shard and compare it with what the catalog knows; with --repair, mend it."""
    with errors_as_exit_codes():
        if prefix and not bucket:
            raise UsageError("--prefix is one of a bucket: name it too")
        query = {"after": after} if after else {}
        if bucket:
            query |= {"bucket": parse_bucket(bucket), "prefix": prefix}
        if repair:
            query["repair"] = "1"
        connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
        total = http.run(connection, lambda api: _scan(api, query, shown=not as_json))
        if as_json:
            print_json(_as_json(total, repair=repair))
        else:
            _tell(total, repair=repair, after=after)
        if total.left or total.unreadable or total.inline_corrupt:
            raise SystemExit(int(ExitCode.FAILURE))


async def _scan(api: Api, query: dict[str, str], *, shown: bool) -> Total:
    total = Total()
    with tally(shown=shown) as line:
        try:
            async for step in steps(api, "/v1/maintenance/scan", query):
                total.add(step)
                line.show(total.row, max(total.last_row, 1), total.in_words())
        except StoreError as error:
            if total.next is None:
                raise
            said = f"{error.message} So far: {total.in_words()}. Go on with --after {total.next}."
            raise type(error)(said) from error
    return total


def _as_json(total: Total, *, repair: bool) -> dict[str, Any]:
    return {
        "repair": repair,
        "stripes": total.stripes,
        "bytes": total.size_bytes,
        "shards": dict(total.shards),
        "damaged": total.damaged,
        "unreadable": total.unreadable,
        "inline": {
            **{name: total.inline[name] for name in ("checked", "unhashed", "bytes")},
            "corrupt": total.inline_corrupt,
        },
        "left": total.left,
    }


def _tell(total: Total, *, repair: bool, after: str) -> None:
    out = console()
    if not total.stripes and not total.inline_count:
        behind = f" behind {'row ' if after.isdecimal() else ''}{after}" if after else ""
        out.print(f"nothing was examined: there is nothing{behind}", markup=False)
        return
    out.print(
        f"{total.stripes} stripes and {total.shards['checked']} shards checked, "
        f"{human_bytes(total.size_bytes)} read",
        markup=False,
    )
    _tell_inline(total)
    if not total.damaged and total.stripes:
        out.print("every shard is there and has its checksum", markup=False)
    if not total.damaged:
        return
    rows = [
        [each["stripe"], str(each["index"]), each["node"], each["found"], each["outcome"]]
        for each in total.damaged[:SHOWN]
    ]
    print_table(["STRIPE", "SHARD", "NODE", "FOUND", "OUTCOME"], rows)
    if len(total.damaged) > SHOWN:
        out.print(f"(and {len(total.damaged) - SHOWN} more; --json lists all)", markup=False)
    names = ("missing", "corrupt", "unreachable", "repaired", "confirmed")
    out.print(", ".join(f"{total.shards[name]} {name}" for name in names), markup=False)
    for stripe in total.unreadable:
        names_of = ", ".join(
            f"oss://{each['bucket']}/{each['key']} version {each['version']}"
            for each in stripe["objects"]
        )
        out.print(
            f"cannot be read now: stripe {stripe['stripe']} has {stripe['good']} of the "
            f"{stripe['needed']} shards it needs ({stripe['unreachable']} more are where nobody "
            f"answers); needed by {names_of or 'an upload'}",
            markup=False,
        )
    if total.left and not repair:
        out.print("--repair rebuilds what can be rebuilt in its place", markup=False)
    elif total.left:
        out.print(f"{total.left} shards are not as they should be", markup=False)


def _tell_inline(total: Total) -> None:
    """The objects whose bytes lie in the catalog; nothing puts these back but a new version."""
    if total.inline_count:
        unhashed = total.inline["unhashed"]
        sizes_only = f", {unhashed} of them by size alone" if unhashed else ""
        console().print(
            f"{total.inline_count} short objects in the catalog checked{sizes_only}, "
            f"{human_bytes(total.inline['bytes'])}",
            markup=False,
        )
    for each in total.inline_corrupt[:SHOWN]:
        name = f"oss://{each['bucket']}/{each['key']} version {each['version']}"
        console().print(f"not what was stored, in the catalog: {name}", markup=False)
    if len(total.inline_corrupt) > SHOWN:
        more = len(total.inline_corrupt) - SHOWN
        console().print(f"(and {more} more; --json lists all)", markup=False)
