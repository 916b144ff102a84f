"""The ledger against the store: every promise, one by one."""

import asyncio
import hashlib
from collections import Counter
from typing import Any
from urllib.parse import quote

import aiohttp

from tests.torture.ledger import KeyLedger, Ledger

PARALLEL = 8


async def verify(ledger: Ledger, endpoint: str, session: aiohttp.ClientSession) -> None:
    """Check all keys; broken promises become violations of the ledger."""
    waiting = iter(sorted(ledger.keys))

    async def worker() -> None:
        for name in waiting:
            try:
                await _verify_key(name, ledger, endpoint, session)
            except (TimeoutError, aiohttp.ClientError) as error:
                ledger.violation(f"{name}: cannot be read at the end: {error!r}")

    async with asyncio.TaskGroup() as group:
        for _ in range(PARALLEL):
            group.create_task(worker())


async def _verify_key(
    name: str, ledger: Ledger, endpoint: str, session: aiohttp.ClientSession
) -> None:
    versions = await _versions(name, endpoint, session)
    for problem in judge(ledger.key(name), versions):
        ledger.violation(f"{name}: {problem}")
    for version in versions:
        if not version["is_marker"]:
            await _verify_bytes(name, version, ledger, endpoint, session)


def judge(entry: KeyLedger, versions: list[dict[str, Any]]) -> list[str]:
    """What is wrong with a key whose versions are these (any order)."""
    numbers = [version["version"] for version in versions]
    bodies = [(v["version"], v["etag"]) for v in versions if not v["is_marker"]]
    found = dict(bodies)
    problems = []
    if len(set(numbers)) != len(numbers):
        problems.append("a version number was given twice")
    strangers = Counter(digest for number, digest in bodies if number not in entry.acknowledged)
    for number, digest in entry.acknowledged.items():
        if number in entry.removed:
            if number in found:
                problems.append(f"version {number} came back after its removal")
        elif number not in found:
            if strangers[digest] > entry.unknown[digest]:
                strangers[digest] -= 1
                problems.append(f"version {number} now has another number")
            elif number not in entry.maybe_removed:
                problems.append(f"acknowledged version {number} is lost")
        elif found[number] != digest:
            problems.append(f"acknowledged version {number} is lost: another has its number")
    for digest in strangers - entry.unknown:
        known = digest in entry.contents()
        problems.append("a PUT was applied twice" if known else f"nobody wrote {digest}")
    markers = sum(v["is_marker"] for v in versions)
    if not entry.markers <= markers <= entry.markers + entry.maybe_markers:
        what = "lost" if markers < entry.markers else "applied twice"
        promised = f"{entry.markers}+{entry.maybe_markers}"
        problems.append(f"a DELETE was {what}: {markers} markers instead of {promised}")
    return problems


async def _versions(
    name: str, endpoint: str, session: aiohttp.ClientSession
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    url = f"{endpoint}/buckets/torture/versions/{quote(name)}"
    after = ""
    while True:
        params = {"limit": "1000", **({"after": after} if after else {})}
        headers = {"Accept": "application/json"}
        async with session.get(url, params=params, headers=headers) as answer:
            if answer.status == 404:
                return found
            answer.raise_for_status()
            page = await answer.json()
        found += page["versions"]
        if page["next"] is None:
            return found
        after = page["next"]


async def _verify_bytes(
    name: str,
    version: dict[str, Any],
    ledger: Ledger,
    endpoint: str,
    session: aiohttp.ClientSession,
) -> None:
    url = f"{endpoint}/buckets/torture/objects/{quote(name)}?version={version['version']}"
    digest = hashlib.sha256()
    async with session.get(url) as answer:
        if answer.status != 200:
            ledger.violation(f"{name} version {version['version']}: {answer.status} at the end")
            return
        async for piece in answer.content.iter_any():
            digest.update(piece)
    ledger.count("verified")
    if digest.hexdigest() != version["etag"]:
        ledger.violation(f"{name} version {version['version']}: wrong bytes")
