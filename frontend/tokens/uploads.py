"""`/upload/single`, `/upload/chuck` and `/upload/finish`: a file in one piece or in many."""

from collections.abc import AsyncIterator
from typing import ClassVar

from frontend import tickets
from frontend.flows.files import (
    FileUpload,
    finish_file,
    is_stored,
    store_file,
    store_file_chunk,
)
from frontend.serving import query
from frontend.serving.cross_origin import CrossOriginHandler
from frontend.tickets import Ticket
from frontend.tokens import arguments
from frontend.tokens.codes import BAD_FILE_PART, CHUNK, NO_FILE_NAME
from frontend.tokens.handler import TokenFormHandler, TokenStreamHandler
from frontend.tokens.multipart import FormFile
from osscore.disposition import content_disposition
from osscore.errors import EntityTooLarge, InvalidArgument, MalformedBody
from ossd.disk import Bytes
from raftmeta.access import UPLOAD
from raftmeta.queries import Chunk

_SUCCESS = {"status": "success"}


class SingleHandler(CrossOriginHandler, TokenStreamHandler):
    """`/upload/single`."""

    codes: ClassVar = {MalformedBody: BAD_FILE_PART, InvalidArgument: BAD_FILE_PART}

    async def post(self) -> None:
        """Store the part `file`, if it is what the token is for."""
        ticket = await self.ticket(tickets.UPLOAD)
        if await is_stored(self.store, ticket.sha256):
            await self.reply_at_once(_SUCCESS)
            return
        form = FormFile(self.request.headers, self.body_stream)
        await form.begin()
        await store_file(
            self.store,
            ticket.sha256,
            _limited(form, _most_bytes(ticket)),
            content=_content(form.file_name, form.content_type),
        )
        self.reply(_SUCCESS)


class ChunkHandler(CrossOriginHandler, TokenStreamHandler):
    """`/upload/chuck`, `/upload/chunk`."""

    codes: ClassVar = {MalformedBody: BAD_FILE_PART, InvalidArgument: CHUNK}

    async def post(self) -> None:
        """Store the part `file` as one chunk of what the token is for."""
        ticket = await self.ticket(tickets.UPLOAD)
        number = arguments.chunk_number(self.arguments)
        chunk_sha256 = arguments.chunk_sha256(self.arguments)
        if await is_stored(self.store, ticket.sha256):
            await self.reply_at_once(_progress(()))
            return
        upload = FileUpload(
            sha256=ticket.sha256,
            ttl_s=self.surface.config.upload_expiry_s,
            size_bytes_max=_most_bytes(ticket),
        )
        held = await store_file_chunk(
            self.store,
            upload,
            number,
            FormFile(self.request.headers, self.body_stream),
            chunk_sha256=chunk_sha256,
            replaces=query.flag(self.arguments, "replace"),
        )
        self.reply(_progress(held))


class FinishHandler(TokenFormHandler):
    """`/upload/finish`."""

    codes: ClassVar = {InvalidArgument: NO_FILE_NAME}

    async def act(self) -> None:
        """Make the file of its chunks, under `file_name`; again: no change."""
        caller = await self.calling_system()
        ticket = await self.ticket(tickets.UPLOAD)
        caller.require(UPLOAD, ticket.sha256)
        name = arguments.file_name(self.arguments)
        await finish_file(
            self.store,
            ticket.sha256,
            content=_content(name, ""),
            size_bytes_max=_most_bytes(ticket),
        )
        self.reply(_SUCCESS)


def _most_bytes(ticket: Ticket) -> int | None:
    return ticket.max_size_bytes or None


def _content(name: str, content_type: str) -> dict[str, str]:
    """The content headers of a file: its name is kept as every dialect gives it back."""
    content = {"content-disposition": content_disposition("attachment", name)} if name else {}
    return {**content, "content-type": content_type} if content_type else content


def _progress(chunks: tuple[Chunk, ...]) -> dict[str, object]:
    received = [chunk.number for chunk in chunks]
    return {**_SUCCESS, "speed": str(len(received)), "received": received, "count": len(received)}


async def _limited(body: AsyncIterator[Bytes], most_bytes: int | None) -> AsyncIterator[Bytes]:
    size_bytes = 0
    async for piece in body:
        size_bytes += len(piece)
        if most_bytes is not None and size_bytes > most_bytes:
            raise EntityTooLarge(f"This token is for at most {most_bytes} bytes.")
        yield piece
