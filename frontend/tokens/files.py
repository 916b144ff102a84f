"""`/download`, `/file/info` and `/file`: what was uploaded."""

from collections.abc import Iterator
from typing import ClassVar
from urllib.parse import urlsplit

from frontend import tickets
from frontend.flows.files import find_file, remove_file
from frontend.flows.locate import hosts_of
from frontend.serving.auditing import audit_note
from frontend.serving.cross_origin import CrossOriginHandler
from frontend.serving.sending import ObjectAnswer
from frontend.tickets import Ticket
from frontend.tokens.handler import CallingSystem, TokenHandler, TokenStreamHandler
from frontend.tokens.part_headers import clean_file_name, parameters
from osscore.disposition import content_disposition
from osscore.errors import InvalidArgument
from osscore.kept_headers import CONTENT_TYPE_DEFAULT
from osscore.model import VersionInfo
from raftmeta.access import DELETE, INFO

_HOLDERS_SEGMENTS = 256
_ANY = 0
"""What a token must be for where any kind will do."""


class DownloadHandler(CrossOriginHandler, TokenStreamHandler):
    """`/download`."""

    takes_links: ClassVar[bool] = True

    async def get(self) -> None:
        """The bytes, or a range of them; HEAD: the same headers."""
        ticket = await self.ticket(tickets.DOWNLOAD)
        # Its length is that of the file: clients resume and show progress by it.
        answer = ObjectAnswer(self, self.store, gzips=False)
        found = await find_file(self.store, ticket.sha256, first=answer.first)
        await answer.send(found, _download_headers(found.version))


class InfoHandler(TokenHandler):
    """`/file/info`."""

    async def get(self) -> None:
        """Size, name, age and whereabouts."""
        _, ticket = await _named(self, INFO)
        found = await find_file(self.store, ticket.sha256, segments_max=_HOLDERS_SEGMENTS)
        version = found.version
        self.reply(
            {
                "size": version.attributes.size_bytes,
                "name": file_name(version),
                "hash": version.key,
                "create_time": version.created_at_ms // 1000,
                "server_ip": await hosts_of(self.store, found) or self._metanodes(),
            }
        )

    def _metanodes(self) -> list[str]:
        hosts = {urlsplit(url).hostname or "" for url in self.store.meta.urls}
        return sorted(hosts)


class FileHandler(TokenHandler):
    """`/file`."""

    async def delete(self) -> None:
        """Remove the file for good."""
        caller, ticket = await _named(self, DELETE)
        note = audit_note(self, caller.actor, "file.remove", ticket.sha256.hex())
        await remove_file(self.store, ticket.sha256, audit=note)
        self.reply({"status": "success"})


async def _named(handler: TokenHandler, scope: str) -> tuple[CallingSystem, Ticket]:
    """Who presents which token, which names a file; who does has `scope` for it."""
    caller = await handler.calling_system()
    ticket = await handler.ticket(_ANY)
    caller.require(scope, ticket.sha256)
    return caller, ticket


def file_name(version: VersionInfo) -> str:
    """The name a file was given, else its key."""
    disposition = version.attributes.content.get("content-disposition", "")
    try:
        return clean_file_name(parameters(disposition).get("filename", "")) or version.key
    except InvalidArgument:  # somebody gave it by another way
        return version.key


def _download_headers(version: VersionInfo) -> Iterator[tuple[str, str]]:
    content = version.attributes.content
    for name in ("content-encoding", "content-language"):
        if name in content:
            yield name, content[name]
    yield "Content-Type", content.get("content-type", CONTENT_TYPE_DEFAULT)
    yield "Content-Disposition", content_disposition("attachment", file_name(version))
    # Somebody's content on our own origin: it may not run here, nor be guessed to be a page.
    yield "X-Content-Type-Options", "nosniff"
    yield "Content-Security-Policy", "default-src 'none'; sandbox"
    # Asked again each time, so that a token that was revoked shows nothing.
    yield "Cache-Control", "private, no-cache"
    yield "Referrer-Policy", "no-referrer"
