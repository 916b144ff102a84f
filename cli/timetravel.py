"""Commands that make objects what they were: restore-prefix, and undelete of many."""

import os
import shlex
import sys
from collections import Counter
from typing import Annotated, Any

import typer

from cli import api as http
from cli.api import Api
from cli.cluster import AsJson, Dir, Endpoint
from cli.connection import Connection, connect
from cli.moments import HELP, parse_at, shown
from cli.output import UsageError, console, errors_as_exit_codes, print_json, print_table
from cli.progress import Tally, tally
from cli.steps import steps
from cli.target import Bucket, Target, parse_prefix

OUTCOMES = ("restored", "hidden", "changed", "removed", "unknown")
MEANINGS = {
    "hidden": "did not exist then, now deleted (their versions stay)",
    "changed": "left alone: written or deleted by others since this began",
    "removed": "left alone: the version of then was removed since (pruned, expired or deleted"
    " for good)",
    "unknown": "left alone: too much of their past was removed to tell what they were",
}
SHOWN = 20
Resume = Annotated[
    str | None, typer.Option("--resume", help="Go on as an interrupted one told to.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would become of them.")]


def restore_prefix(
    prefix: Annotated[
        str, typer.Argument(help="What names begin with, or oss://BUCKET/PREFIX; '' for all.")
    ],
    at: Annotated[str, typer.Option("--at", metavar="TIME", help=HELP)],
    dry_run: DryRun = False,
    resume: Resume = None,
    bucket: Bucket = None,
    directory: Dir = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Make every object under a prefix what it was at a time.

    Versions of then come back as new versions, objects that did not exist then get a delete
    marker. Nothing is destroyed: restore to a moment before this to undo it.
    """
    with errors_as_exit_codes():
        target = parse_prefix(prefix, bucket)
        query = {"at": parse_at(at), **resumed(resume)}
        connection = connect(endpoint=endpoint, directory=directory, environ=os.environ)
        travel(connection, "restore", target, query, dry_run=dry_run, as_json=as_json)


def travel(
    connection: Connection,
    verb: str,
    target: Target,
    query: dict[str, str],
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """All steps of `/v1/maintenance/VERB`, told as they go and summed up at the end."""
    query = {"bucket": target.bucket, "prefix": target.key, **query}
    if dry_run:
        query["dry_run"] = "1"
    total = _Total(query)
    try:
        http.run(connection, lambda api: _all_steps(api, verb, query, total, shown=not as_json))
    except BaseException:
        total.tell_how_to_resume()
        raise
    when = query.get("at") or query["since"]
    if as_json:
        print_json({"bucket": target.bucket, "prefix": target.key, **total.as_json(when, dry_run)})
    else:
        total.tell(verb, when, dry_run=dry_run)


class _Total:
    """What all steps so far did."""

    def __init__(self, query: dict[str, str]) -> None:
        self.visited = 0
        self.counts: Counter[str] = Counter()
        self.objects: list[dict[str, Any]] = []
        self.resumed_behind = query.get("after", "")
        self.began = ""
        # An age would mean another moment by then.
        self._moment = f"--at {query['at']}" if "at" in query else f"--since {query['since']}"
        self._next: str | None = None

    def add(self, step: dict[str, Any]) -> None:
        """One more step."""
        self.visited += step["visited"]
        self.counts.update({outcome: step[outcome] for outcome in OUTCOMES})
        self.objects += step["objects"]
        self.began, self._next = step["began"], step["next"]

    def as_json(self, when: str, dry_run: bool) -> dict[str, Any]:
        """For programs."""
        counts = {outcome: self.counts[outcome] for outcome in OUTCOMES}
        return {
            "time": when,
            "began": self.began,
            "dry_run": dry_run,
            "visited": self.visited,
            **counts,
            "objects": self.objects,
        }

    def tell(self, verb: str, when: str, *, dry_run: bool) -> None:
        """For people: some names, then each count with what it means."""
        rows = [
            [each["outcome"], str(each["version"] or ""), each["key"]]
            for each in self.objects[:SHOWN]
        ]
        if rows:
            print_table(["OUTCOME", "VERSION", "NAME"], rows)
        if len(self.objects) > SHOWN:
            console().print(f"(and {len(self.objects) - SHOWN} more)", markup=False)
        lines = [self._first_line(verb, when, dry_run=dry_run)]
        lines += [f"{self.counts[o]} {o}: {MEANINGS[o]}" for o in MEANINGS if self.counts[o]]
        if dry_run:
            lines.append("a dry run: nothing was changed")
        for line in lines:
            console().print(line, markup=False)

    def _first_line(self, verb: str, when: str, *, dry_run: bool) -> str:
        count = self.counts["restored"]
        where = f" behind {self.resumed_behind}" if self.resumed_behind else ""
        looked = f"of {self.visited} names looked at{where}"
        would = "would " if dry_run else ""
        if verb == "undelete":
            be = "come" if dry_run or count != 1 else "comes"
            return f"{count} {would}{be} back {looked}, deleted since {shown(when)}"
        be = "become" if dry_run or count != 1 else "becomes"
        return f"{count} {would}{be} again what they were at {shown(when)}, {looked}"

    def tell_how_to_resume(self) -> None:
        """On standard error, once a step was done."""
        if self._next is not None:
            counts = ", ".join(f"{self.counts[outcome]} {outcome}" for outcome in OUTCOMES)
            place = shlex.quote(f"{self.began}/{self._next}")
            sys.stderr.write(
                f"ossctl: so far {counts}; go on with {self._moment} --resume {place}\n"
            )


async def _all_steps(
    api: Api, verb: str, query: dict[str, str], total: _Total, *, shown: bool
) -> None:
    with tally(shown=shown) as line:
        await _each_step(api, verb, query, total, line)


async def _each_step(
    api: Api, verb: str, query: dict[str, str], total: _Total, line: Tally
) -> None:
    async for step in steps(api, f"/v1/maintenance/{verb}", query):
        query["began"] = step["began"]  # read anew for each further step
        total.add(step)
        found = ", ".join(f"{total.counts[o]} {o}" for o in OUTCOMES if total.counts[o])
        line.show(total.visited, None, f"{total.visited} names looked at: {found or 'as wanted'}")


def resumed(text: str | None) -> dict[str, str]:
    """Where an interrupted command told to go on. Raises UsageError."""
    if text is None:
        return {}
    began, slash, after = text.partition("/")
    if not (began and slash and after):
        raise UsageError("--resume is what the interrupted command told, as in 'TIME/NAME'")
    return {"began": began, "after": after}
