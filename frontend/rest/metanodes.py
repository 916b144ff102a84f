"""What the metanodes say of themselves."""

import asyncio
from collections.abc import Iterable, Sequence

import msgspec

from osscore.errors import StoreError
from ossd.rpc import Rpc
from raftmeta.client import read_status
from raftmeta.wire import Status

_DEADLINE_S = 1.5


class MetanodeShown(msgspec.Struct, frozen=True, kw_only=True):
    """One metanode; `state` is "down" where it does not answer."""

    id: str
    url: str
    state: str
    term: int = 0
    applied_index: int = 0
    leader: str | None = None
    free_bytes: int = 0


async def read_metanodes(rpc: Rpc, urls: Sequence[str]) -> list[MetanodeShown]:
    """The metanodes that count, as whoever knows the log furthest names them, in order of their
    ids; before anybody names them, those asked."""
    answers = await _ask(rpc, urls)
    told = [status for status in answers.values() if status is not None]
    newest = max(told, key=lambda status: status.members_index, default=None)
    ids = {member.url: member.id for member in newest.members} if newest is not None else {}
    answers |= await _ask(rpc, [url for url in ids if url not in answers])
    if ids:
        counted = set(ids.values())
        answers = {url: each for url, each in answers.items() if _id(url, each, ids) in counted}
    shown = {_id(url, status, ids): _shown(url, status, ids) for url, status in answers.items()}
    return [shown[name] for name in sorted(shown)]


async def _ask(rpc: Rpc, urls: Iterable[str]) -> dict[str, Status | None]:
    asked = list(urls)
    return dict(
        zip(asked, await asyncio.gather(*(_ask_one(rpc, url) for url in asked)), strict=True)
    )


async def _ask_one(rpc: Rpc, url: str) -> Status | None:
    try:
        return await read_status(rpc, url, deadline_s=_DEADLINE_S)
    except (StoreError, msgspec.MsgspecError):
        return None


def _id(url: str, status: Status | None, ids: dict[str, str]) -> str:
    return status.id if status else ids.get(url, url)


def _shown(url: str, status: Status | None, ids: dict[str, str]) -> MetanodeShown:
    if status is None:
        return MetanodeShown(id=_id(url, status, ids), url=url, state="down")
    return MetanodeShown(
        id=status.id,
        url=url,
        state=status.state,
        term=status.term,
        applied_index=status.applied_index,
        leader=status.leader,
        free_bytes=status.free_bytes,
    )
