"""Long work that a frontend does in bounded steps: asked for one after another, to the end.

A step that the cluster cannot do now (a leader is elected, memory is short) is asked for again
for a while, every step may be repeated; but not if it is the first, which has begun nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from cli.api import Api
from osscore.errors import Unavailable

PATIENCE = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0)
"""Seconds before each further attempt at the same step."""


async def steps(api: Api, path: str, query: Mapping[str, str]) -> AsyncIterator[dict[str, Any]]:
    """The answers to all steps, in order. Raises what `Api.json` raises."""
    answer = await _step(api, path, query)
    while True:
        yield answer
        if answer["next"] is None:
            return
        go_on = {"after": str(answer["next"])}
        if answer.get("run"):
            go_on["run"] = answer["run"]  # one row of the audit for all steps
        answer = await _patiently(api, path, {**query, **go_on})


async def _patiently(api: Api, path: str, query: Mapping[str, str]) -> dict[str, Any]:
    for pause_s in PATIENCE:
        try:
            return await _step(api, path, query)
        except Unavailable:
            await asyncio.sleep(pause_s)
    return await _step(api, path, query)


async def _step(api: Api, path: str, query: Mapping[str, str]) -> dict[str, Any]:
    answer: dict[str, Any] = await api.json("POST", path, query=query)
    return answer
