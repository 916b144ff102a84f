"""The ledger against the store: every promise, one by one."""

import asyncio
import hashlib
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
            await _verify_key(name, ledger, endpoint, session)

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
    problems = []
    digests = [v["etag"] for v in versions if not v["is_marker"]]
    numbers = {v["etag"]: v["version"] for v in versions if not v["is_marker"]}
    if len(set(digests)) != len(digests):
        problems.append("a PUT was applied twice")
    if len({v["version"] for v in versions}) != len(versions):
        problems.append("a version number was given twice")
    for digest, number in entry.acknowledged.items():
        if digest in entry.removed:
            if digest in numbers:
                problems.append(f"version {number} came back after its removal")
        elif digest not in numbers:
            if digest not in entry.maybe_removed:
                problems.append(f"acknowledged version {number} is lost")
        elif numbers[digest] != number:
            problems.append(f"version {number} now has number {numbers[digest]}")
    strangers = set(digests) - entry.contents()
    if strangers:
        problems.append(f"versions nobody wrote: {strangers}")
    markers = sum(v["is_marker"] for v in versions)
    if not entry.markers <= markers <= entry.markers + entry.maybe_markers:
        problems.append(f"{markers} markers instead of {entry.markers}+{entry.maybe_markers}")
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
