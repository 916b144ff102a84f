"""The one door of a blob daemon that is open to users, `/temp/...`, and the pieces behind it,
which frontends fetch. What each request means: docs/native-api.md, `blobd.wire`."""

from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from blobd.handlers import BoundedHandler
from blobd.temp.adoption import Adoptions
from blobd.temp.intake import Intake
from blobd.temp.records import TempDone, TempHead, TempId, parse_temp_id
from blobd.temp.shelf import Shelf
from blobd.temp.temps import FoundTemp, Temps
from blobd.wire import BLOCK_CRCS_HEADER
from osscore import paths
from osscore.digest_headers import declared_sha256, hash_of_name
from osscore.errors import (
    BadDigest,
    Conflict,
    ContentMismatch,
    EntityTooLarge,
    IncompleteBody,
    InvalidArgument,
    StoreError,
    Unauthenticated,
)
from osscore.kept_headers import PROFILE_HEADER, content_headers, user_metadata
from osscore.model import Profile
from osscore.times import iso_time
from ossd.budget import ByteBudget
from ossd.credentials import REALM, parse_authorization
from ossd.http import StreamHandler
from ossd.json_body import parse_json
from raftmeta.access import UPLOAD, Access, Grant

ASSERTION_BYTES_MAX = 4096
PREFIX = "/temp/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """What the handlers of temps work with."""

    temps: Temps
    adoptions: Adoptions
    access: Access
    budget: ByteBudget


def temp_routes(door: Door, shared: object) -> list[Any]:
    """Routes for `serve`; `shared` is what `blobd.handlers` shares."""
    return [
        (r"/temp(?:/.*)?", TempHandler, {"door": door}),
        (
            r"/v1/temps/([0-9a-f]{32})/pieces/(\d{1,18})",
            PieceHandler,
            {"shared": shared, "door": door},
        ),
    ]


class Assertion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the body of a PATCH may say of the content."""

    sha256: str | None = None
    size: int | None = None


class TempHandler(StreamHandler):
    """`POST /temp/NAME`, and `PATCH`, `HEAD`, `DELETE /temp/ID`."""

    api: ClassVar[str] = "temp"

    def initialize(self, door: Door) -> None:
        """Take what the process shares."""
        self.door = door

    async def post(self) -> None:
        """Keep the body; 201 once it is durable here. It is no object yet."""
        name = paths.key(paths.after(self.request.path, PREFIX))
        grant = await self._allow(name)
        sha256 = declared_sha256(self.request.headers)
        template = self._template(name, grant)
        shelf = await self.door.temps.roomiest(self.declared_bytes or 0)
        temp = self.door.temps.fresh_id()
        with self.door.temps.busy(temp):
            try:
                head = await self._take_in(shelf, temp, template, sha256)
            except BaseException:
                self.door.temps.drop(shelf, temp)
                raise
        self.set_header("Location", PREFIX + temp.hex())
        self.reply_json(
            {
                "id": temp.hex(),
                "sha256": head.sha256.hex(),
                "size": head.size_bytes,
                "expires_at": iso_time(head.expires_at_ms),
            },
            status=201,
        )

    async def patch(self) -> None:
        """Make it an object; the same answer however often it is asked."""
        asserted = parse_assertion(await self._small_body())
        found = await self._find()
        check_assertion(asserted, found.content)
        done = await self.door.adoptions.confirm(found)
        self.set_header("X-Version", done.number)
        self.set_header("X-Version-Id", done.version_id)
        self.reply_json(
            {
                "name": done.name,
                "version": done.number,
                "sha256": done.sha256.hex(),
                "size": done.size_bytes,
            }
        )

    async def head(self, *_: str, **__: str) -> None:
        """How much came."""
        size_bytes = (await self._find()).content.size_bytes
        self.set_header("Content-Length", size_bytes)
        self.set_header("Upload-Offset", size_bytes)

    async def delete(self) -> None:
        """Give it up."""
        found = await self._find()
        if found.done is not None:
            raise Conflict(f"This upload became version {found.done.number} already.")
        await self.door.adoptions.give_up(found)
        self.set_status(204)

    # --- inside --------------------------------------------------------------------------

    async def _take_in(
        self, shelf: Shelf, temp: TempId, template: TempHead, sha256: bytes | None
    ) -> TempHead:
        received = await Intake(shelf, temp, self.door.budget).receive(self.body_stream)
        if self.declared_bytes is not None and received.size_bytes != self.declared_bytes:
            raise IncompleteBody(f"{received.size_bytes} of {self.declared_bytes} bytes came.")
        if sha256 is not None and sha256 != received.sha256:
            raise BadDigest(
                f"The body has SHA-256 {received.sha256.hex()}, the request declares "
                f"{sha256.hex()}."
            )
        head = msgspec.structs.replace(
            template,
            size_bytes=received.size_bytes,
            sha256=received.sha256,
            piece_count=received.piece_count,
            created_at_ms=self.door.temps.now_ms(),
            expires_at_ms=self.door.temps.expiry_ms(),
        )
        await shelf.put_head(temp, head)
        return head

    def _template(self, name: str, grant: Grant) -> TempHead:
        """What the request says of the object to be. Raises InvalidArgument."""
        profile = self.request.headers.get(PROFILE_HEADER, "")
        if profile:
            Profile.parse(profile)
        return TempHead(
            name=name,
            access_key=grant.access_key,
            size_bytes=0,
            sha256=b"",
            piece_count=0,
            created_at_ms=0,
            expires_at_ms=0,
            content=content_headers(self.request.headers),
            user=user_metadata(self.request.headers.get_all()),
            profile=profile,
        )

    async def _grant(self) -> Grant:
        header = self.request.headers.get("Authorization")
        return await self.door.access.grant(parse_authorization(header))

    async def _allow(self, name: str) -> Grant:
        grant = await self._grant()
        grant.require(UPLOAD, paths.DEFAULT_BUCKET, name)
        return grant

    async def _find(self) -> FoundTemp:
        """The temp the path names. Nobody unknown learns whether it exists."""
        await self._grant()
        text = paths.after(self.request.path, PREFIX)
        found = await self.door.temps.find(parse_temp_id(text))
        await self._allow(found.content.name)
        return found

    async def _small_body(self) -> bytes:
        body = b""
        async for piece in self.body_stream:
            body += piece
            if len(body) > ASSERTION_BYTES_MAX:
                raise EntityTooLarge(f"The body may have {ASSERTION_BYTES_MAX} bytes here.")
        return body

    def _set_fact_headers(self, error: StoreError) -> None:
        super()._set_fact_headers(error)
        if isinstance(error, Unauthenticated):
            self.set_header("WWW-Authenticate", REALM)


class PieceHandler(BoundedHandler):
    """GET /v1/temps/ID/pieces/N, for frontends."""

    def initialize(self, shared: Any, door: Door) -> None:  # type: ignore[override]
        """Tornado's call with the route's arguments."""
        super().initialize(shared)
        self.door = door

    async def get(self, temp: str, number: str) -> None:
        """The whole piece, verified as it was read."""
        found = await self.door.temps.find(parse_temp_id(temp))
        await self.take(found.shelf.piece_bytes(found.temp, int(number)))
        with self.working():
            read = await found.shelf.piece(found.temp, int(number))
            self.door.adoptions.note_read(found.temp)
            self.set_header("Content-Type", "application/octet-stream")
            self.set_header(BLOCK_CRCS_HEADER, "".join(f"{crc:08x}" for crc in read.block_crcs))
            await self.reply_body(read.body)


def parse_assertion(body: bytes) -> Assertion:
    """What a PATCH says. Raises MalformedBody, InvalidArgument."""
    if not body.strip():
        return Assertion()
    asserted = parse_json(body, Assertion, 'The body is JSON like {"sha256","size"}')
    if asserted.sha256 is not None and hash_of_name(asserted.sha256) is None:
        raise InvalidArgument("sha256 is neither hex nor base64 of 32 bytes.")
    return asserted


def check_assertion(asserted: Assertion, content: TempHead | TempDone) -> None:
    """Raises ContentMismatch unless the content is what is asserted."""
    if asserted.size is not None and asserted.size != content.size_bytes:
        raise ContentMismatch(f"The upload has {content.size_bytes} bytes, not {asserted.size}.")
    if asserted.sha256 is not None and hash_of_name(asserted.sha256) != content.sha256:
        raise ContentMismatch(f"The upload has SHA-256 {content.sha256.hex()}.")
