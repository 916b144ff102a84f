"""Maintenance on request: `/v1/maintenance/...`. Each request is one bounded step whose answer
says where the next one begins (`next`, null at the end), so a caller may stop and go on at will.
One row of the audit stands for the steps that bring its `run` along (`frontend.runs`).
"""

from collections import Counter

import msgspec

from frontend.flows.orphans import sweep_page
from frontend.flows.prune import Pruned, PruneStep, prune_step
from frontend.flows.scan import (
    CONFIRMED,
    CORRUPT,
    GOOD,
    MISSING,
    REPAIRED,
    UNREACHABLE,
    Scanned,
    ScanStep,
    ShardFinding,
    StripeFinding,
    scan_step,
)
from frontend.flows.store import Store
from frontend.rest.handler import NativeHandler
from frontend.serving import query
from frontend.serving.auditing import audit_note
from osscore import paths
from osscore.errors import InvalidArgument
from osscore.model import VersionInfo
from osscore.names import BucketName
from raftmeta.access import ADMIN, DELETE, Grant
from raftmeta.credentials import AuditNote

KEEP_DEFAULT = 5
_INLINE = "inline-"
_DIGITS_MAX = 40


class StepHandler(NativeHandler):
    """A step of work whose use is audited."""

    async def has_row(self, grant: Grant, note: AuditNote) -> bool:
        """Whether the row of an earlier step stands for this one."""
        run, after = (query.text(self.arguments, name) for name in ("run", "after"))
        self._began_at_ms = await self.surface.runs.find(run, grant, note, after)
        return self._began_at_ms is not None

    async def run_from(self, grant: Grant, note: AuditNote, following: str | None) -> str | None:
        """The `run` of the step after this one, whose row, its own or an earlier one, stands."""
        if following is None:
            return None
        return await self.surface.runs.write(self._began_at_ms, grant, note, following)

    _began_at_ms: int | None = None


class PruneHandler(StepHandler):
    """`/v1/maintenance/prune`: keep the newest versions of objects, remove older ones."""

    async def post(self) -> None:
        """`?bucket=&keep=5` and `key=`, or `prefix=`, `after=` and `run=`; `dry_run=1` only counts.

        Whoever may remove single versions may prune.
        """
        given = self.arguments
        bucket = BucketName.parse(query.text(given, "bucket", paths.DEFAULT_BUCKET))
        key, prefix = query.text(given, "key"), query.text(given, "prefix")
        grant = await self.allow(DELETE, bucket, key or prefix)
        keep = query.number(given, "keep")
        if keep == 0:
            raise InvalidArgument("keep must be at least 1.")
        step = PruneStep(
            bucket=str(bucket),
            keep=KEEP_DEFAULT if keep is None else keep,
            key=paths.key(key) if key else "",
            prefix=prefix,
            after=query.text(given, "after"),
            is_dry_run=query.flag(given, "dry_run"),
        )
        target = f"{bucket}/{step.key or prefix}"
        note = audit_note(self, grant.access_key, "prune", target, f"keep={step.keep}")
        # One object's name may be a prefix of others: its row stands for nothing else.
        is_run = not (step.is_dry_run or step.key)
        needs_row = not step.is_dry_run and not (is_run and await self.has_row(grant, note))
        pruned = await prune_step(self.store, step, audit=note if needs_row else None)
        run = await self.run_from(grant, note, pruned.next) if is_run else None
        self.reply_json({**_shown(pruned, step), "run": run})


class ScanHandler(StepHandler):
    """`/v1/maintenance/scan`: every shard against the catalog; with `repair=1` mended in place."""

    async def post(self) -> None:
        """`?after=&run=&bucket=&prefix=&repair=1`; without a bucket the whole store."""
        given = self.arguments
        named = query.text(given, "bucket")
        bucket = str(BucketName.parse(named)) if named else ""
        prefix = query.text(given, "prefix")
        after_row, after_inline = _parsed_after(query.text(given, "after"))
        if prefix and not bucket:
            raise InvalidArgument("A prefix is one of a bucket: name it too.")
        step = ScanStep(
            after_row=after_row,
            after_inline=after_inline,
            bucket=bucket,
            prefix=prefix,
            repairs=query.flag(given, "repair"),
        )
        grant = await self.allow(ADMIN)
        target = f"{bucket}/{prefix}" if prefix else bucket
        note = audit_note(self, grant.access_key, "scan", target, "repair" if step.repairs else "")
        if not await self.has_row(grant, note):
            await self.note(note)
        scanned = await scan_step(self.store, step)
        run = await self.run_from(grant, note, _next_of(scanned))
        self.reply_json({**_shown_scan(self.store, scanned, step), "run": run})


class OrphansHandler(StepHandler):
    """`/v1/maintenance/orphans`: a disk looked through for what nobody can name any more."""

    async def post(self) -> None:
        """`?disk=N&after=&run=`; `dry_run=1` only counts."""
        given = self.arguments
        disk, after = query.number(given, "disk"), query.text(given, "after")
        if disk is None:
            raise InvalidArgument("Name a disk by its number in /v1/cluster: ?disk=1.")
        is_dry_run = query.flag(given, "dry_run")
        grant = await self.allow(ADMIN)
        detail = "dry run" if is_dry_run else ""
        note = audit_note(self, grant.access_key, "orphans", str(disk), detail)
        if not await self.has_row(grant, note):
            await self.note(note)
        swept = await sweep_page(self.store, disk, after, is_dry_run=is_dry_run)
        page = swept.page
        counts = {
            name: msgspec.structs.asdict(getattr(page, name))
            for name in ("examined", "young", "kept", "shared", "removed")
        }
        self.reply_json(
            {
                "node": swept.node,
                "disk": disk,
                "dry_run": is_dry_run,
                **{
                    name: {"shards": count["shards"], "bytes": count["size_bytes"]}
                    for name, count in counts.items()
                },
                "next": page.next or None,
                "run": await self.run_from(grant, note, page.next or None),
            }
        )


def _shown_scan(store: Store, scanned: Scanned, step: ScanStep) -> dict[str, object]:
    counts = {found: scanned.shards[found] for found in (GOOD, MISSING, CORRUPT, UNREACHABLE)}
    shards = [(finding, shard) for finding in scanned.findings for shard in finding.shards]
    done = Counter(shard.outcome for _, shard in shards)
    return {
        "repair": step.repairs,
        "stripes": scanned.stripes,
        "bytes": scanned.size_bytes,
        "shards": {
            "checked": sum(counts.values()),
            **counts,
            REPAIRED: done[REPAIRED],
            CONFIRMED: done[CONFIRMED],
        },
        "damaged": [_shown_shard(store, finding, shard) for finding, shard in shards],
        "unreadable": [
            _shown_unreadable(finding) for finding in scanned.findings if not finding.is_readable
        ],
        "row": scanned.next_row or scanned.last_row,
        "last_row": scanned.last_row,
        "inline": {
            "checked": scanned.inline.checked,
            "unhashed": scanned.inline.unhashed,
            "bytes": scanned.inline.size_bytes,
            "corrupt": [_shown_version(each) for each in scanned.inline.corrupt],
        },
        "next": _next_of(scanned),
    }


def _shown_shard(store: Store, finding: StripeFinding, shard: ShardFinding) -> dict[str, object]:
    place = store.cluster.place(shard.slot.disk)
    return {
        "stripe": finding.stripe.stripe.hex(),
        "index": shard.slot.index,
        "gen": shard.slot.gen,
        "disk": shard.slot.disk,
        "node": place.node if place else "",
        "found": shard.found,
        "outcome": shard.outcome,
    }


def _shown_unreadable(finding: StripeFinding) -> dict[str, object]:
    away = sum(shard.found == UNREACHABLE for shard in finding.shards)
    return {
        "stripe": finding.stripe.stripe.hex(),
        "good": finding.good_count,
        "needed": finding.stripe.coding.data_count,
        # More may be good: they lie where nobody answers now.
        "unreachable": away,
        "objects": [_shown_version(owner) for owner in finding.owners],
    }


def _shown_version(version: VersionInfo) -> dict[str, object]:
    return {"bucket": version.bucket, "key": version.key, "version": version.number}


def _next_of(scanned: Scanned) -> str | None:
    """Where the next step of a scan begins: behind a stripe's row, or a body's version."""
    if scanned.next_row:
        return str(scanned.next_row)
    return None if scanned.next_inline is None else f"{_INLINE}{scanned.next_inline}"


def _parsed_after(text: str) -> tuple[int, int | None]:
    """Inverse of _next_of. Raises InvalidArgument."""
    digits = text.removeprefix(_INLINE)
    if text and not (digits.isascii() and digits.isdecimal() and len(digits) <= _DIGITS_MAX):
        raise InvalidArgument(f"after is the `next` of the step before, not {text[:40]!r}.")
    number = int(digits or 0)
    return (0, number) if text.startswith(_INLINE) else (number, None)


def _shown(pruned: Pruned, step: PruneStep) -> dict[str, object]:
    return {
        "bucket": step.bucket,
        "keep": step.keep,
        "dry_run": step.is_dry_run,
        "visited": pruned.visited,
        "versions": sum(key.versions for key in pruned.keys),
        "markers": sum(key.markers for key in pruned.keys),
        "bytes": sum(key.size_bytes for key in pruned.keys),
        "objects": [
            {
                "key": key.key,
                "versions": key.versions,
                "markers": key.markers,
                "bytes": key.size_bytes,
            }
            for key in pruned.keys
        ],
        "next": pruned.next,
    }
