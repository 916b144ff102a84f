"""Which metanodes there are: `/v1/meta/members` and `/v1/meta/lead` (docs/adr/0017)."""

import msgspec

from frontend.rest.handler import NativeHandler
from osscore.errors import InvalidArgument
from raftmeta.access import INFO
from raftmeta.member_client import MemberClient
from raftmeta.wire import Follower, MembersShown


class Addition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `POST /v1/meta/members`. `replaces`: the metanode whose place it takes."""

    id: str
    replaces: str = ""


class Transfer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `POST /v1/meta/lead`. `to`: who shall lead; empty: whoever is best placed."""

    to: str = ""


class MembersBase(NativeHandler):
    """What these share."""

    @property
    def members(self) -> MemberClient:
        """The metanodes as members."""
        store = self.store
        return MemberClient(
            self.surface.rpc, lambda: store.meta.urls, clock=store.clock, random=store.random
        )

    async def show(self) -> None:
        """Answer who counts and who follows."""
        self.reply_json(_shown(await self.members.show()))


class MembersHandler(MembersBase):
    """`/v1/meta/members`: the metanodes as their leader sees them."""

    async def get(self) -> None:
        """Who counts, who follows, and how closely."""
        await self.allow(INFO)
        await self.show()

    async def post(self) -> None:
        """Count one that follows; with `replaces`, another no more. Then as GET."""
        note = await self.administer("meta.add")
        wanted = await self.read_json(Addition)
        if not wanted.id:
            raise InvalidArgument("Name the metanode: id.")
        detail = f"replaces={wanted.replaces}" if wanted.replaces else ""
        note = msgspec.structs.replace(note, target=wanted.id, detail=detail)
        if wanted.replaces:
            await self.members.replace(wanted.replaces, wanted.id, audit=note)
        else:
            await self.members.add(wanted.id, audit=note)
        await self.show()


class MemberHandler(MembersBase):
    """`/v1/meta/members/ID`."""

    async def delete(self, name: str) -> None:
        """Count it no more; one that leads gives its place away first. Then as GET."""
        note = await self.administer("meta.remove", name)
        await self.members.remove(name, audit=note)
        await self.show()


class LeadHandler(MembersBase):
    """`/v1/meta/lead`: let another metanode lead."""

    async def post(self) -> None:
        """Then as GET of the members."""
        note = await self.administer("meta.transfer-leader")
        wanted = await self.read_json(Transfer)
        await self.note(msgspec.structs.replace(note, target=wanted.to))
        await self.members.give_away(wanted.to)
        await self.show()


def _shown(found: MembersShown) -> dict[str, object]:
    return {
        "leader": found.leader,
        "term": found.term,
        "applied_index": found.applied_index,
        "members_index": found.members_index,
        "metanodes": [_follower(each, found) for each in found.followers],
    }


def _follower(each: Follower, found: MembersShown) -> dict[str, object]:
    is_leader = each.member.id == found.leader
    return {
        "id": each.member.id,
        "raft": each.member.raft,
        "url": each.member.url,
        "state": "leader" if is_leader else "member" if each.counts else "joining",
        "entries_behind": max(0, found.applied_index - each.match_index),
        "silent_ms": each.silent_ms,
    }
