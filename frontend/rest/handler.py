"""What every handler of the native dialect does: who may, which arguments, which errors."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, ClassVar, TypeVar

import msgspec

from frontend.flows.put import StoredObject
from frontend.flows.store import Store
from frontend.permits import Permit
from frontend.serving import query
from frontend.serving.auditing import audit_note
from frontend.serving.etags import http_date
from frontend.serving.surface import Surface
from osscore.errors import EntityTooLarge, InvalidArgument, StoreError, Unauthenticated
from osscore.kept_headers import PROFILE_HEADER
from osscore.model import Profile, VersionInfo
from osscore.times import iso_time
from ossd.credentials import REALM, parse_authorization
from ossd.http import StreamHandler
from ossd.json_body import parse_json
from raftmeta.access import ADMIN, Grant
from raftmeta.commands import Done
from raftmeta.credentials import AuditNote, NoteAudit

JSON_BYTES_MAX = 64 * 1024
CLOCKS_DIFFER_MS = 60_000
"""So far ahead of ours a client's "now" may lie."""
Seconds = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]
"""A duration in a JSON body, small enough for any arithmetic."""
T = TypeVar("T")


class NativeHandler(StreamHandler):
    """A request of the native API. Bodies are streams; who needs none does not read it."""

    api: ClassVar[str] = "rest"

    def initialize(self, surface: Surface) -> None:
        """Take what the process shares."""
        self.surface = surface

    @property
    def store(self) -> Store:
        """What flows work with."""
        return self.surface.store

    async def authenticate(self) -> Grant:
        """Who the caller is. Raises Unauthenticated."""
        credentials = parse_authorization(self.request.headers.get("Authorization"))
        return await self.surface.access.grant(credentials)

    async def allow(self, scope: str, bucket: str | None = None, key: str | None = None) -> Grant:
        """Check the caller; see Grant.may. Raises Unauthenticated, AccessDenied."""
        grant = await self.authenticate()
        grant.require(scope, bucket, key)
        return grant

    async def permit(self, scope: str, bucket: str, key: str, *, asks: bool) -> Permit:
        """The right to write that object, which its commands prove; see Permit.begin. Raises as
        `allow` does."""
        permit = Permit(
            self.surface.access,
            self.store.meta,
            parse_authorization(self.request.headers.get("Authorization")),
            lambda grant: grant.require(scope, bucket, key),
        )
        await permit.begin(asks=asks)
        return permit

    async def allow_beside(
        self, work: Coroutine[Any, Any, T], scope: str, bucket: str, key: str
    ) -> T:
        """What `work` finds, for a caller who may: a question about that object only.

        It is under way while the caller is checked, so that both questions travel together
        and the check costs a read no round trip of its own. Raises as `allow` and `work` do.
        """
        check = asyncio.create_task(self.allow(scope, bucket, key))
        found = asyncio.create_task(work)
        try:
            await check
            return await found
        finally:
            for task in (check, found):
                task.cancel()
            # Whoever may not is told so, whatever was found.
            await asyncio.gather(check, found, return_exceptions=True)

    async def administer(
        self, action: str, target: str = "", detail: str = "", *, bucket: str | None = None
    ) -> AuditNote:
        """Check that the caller administers the cluster, or `bucket`.

        The note belongs to the command that does it, or is recorded by `note`. Raises
        Unauthenticated, AccessDenied.
        """
        grant = await self.allow(ADMIN, bucket)
        return audit_note(self, grant.access_key, action, target, detail)

    async def note(self, audit: AuditNote) -> None:
        """Record the use of a right that only reads, before the answer."""
        await self.store.meta.propose(NoteAudit(), Done, audit=audit)

    async def read_json(self, kind: type[T]) -> T:
        """The body as that struct; none at all is an empty object. Raises MalformedBody,
        EntityTooLarge."""
        body = b""
        async for piece in self.body_stream:
            body += piece
            if len(body) > JSON_BYTES_MAX:
                raise EntityTooLarge(f"The body may have {JSON_BYTES_MAX} bytes here.")
        return parse_json(body or b"{}", kind, "The body is not the JSON this needs")

    @property
    def arguments(self) -> query.Arguments:
        """The query string's arguments, undecoded."""
        return self.request.query_arguments

    def asked_moment(self, name: str) -> int:
        """A time in the query as unix ms, 0 if not given. Raises InvalidArgument, also for the
        future: of that nobody can tell."""
        moment_ms = query.moment_ms(self.arguments, name)
        if moment_ms > self.surface.access.now_ms() + CLOCKS_DIFFER_MS:
            raise InvalidArgument(f"{name}={iso_time(moment_ms)} lies in the future.")
        return moment_ms

    def asked_profile(self) -> Profile | None:
        """The redundancy this request asks for. Raises InvalidArgument."""
        # In a query string a bare '+' reads as a space.
        argument = query.text(self.arguments, "profile").strip().replace(" ", "+")
        header = self.request.headers.get(PROFILE_HEADER, "")
        asked = {Profile.parse(text) for text in (argument, header) if text}
        if len(asked) > 1:
            raise InvalidArgument(f"{PROFILE_HEADER} and ?profile= ask for two profiles.")
        return next(iter(asked), None)

    def set_version_headers(self, version: VersionInfo) -> None:
        """Which version an answer is about."""
        self.set_header("X-Version", version.number)
        self.set_header("X-Version-Id", version.version_id)

    def reply_stored(self, stored: StoredObject) -> None:
        """Answer which version was made."""
        sha256 = stored.sha256.hex()
        self.set_header("Etag", f'"{sha256}"')
        self.set_header("X-Version", stored.number)
        self.set_header("X-Version-Id", stored.version_id)
        self.set_header("Last-Modified", http_date(stored.created_at_ms))
        self.reply_json(
            {
                "version": stored.number,
                "version_id": stored.version_id,
                "size": stored.size_bytes,
                "sha256": sha256,
                "etag": sha256,
            }
        )

    def reply_lines(self, rows: list[dict[str, object]]) -> None:
        """Answer newline-delimited JSON."""
        self.set_header("Content-Type", "application/x-ndjson")
        self.write(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))

    def wants_json(self) -> bool:
        """Whether the client asks for one JSON document by name."""
        return "application/json" in self.request.headers.get("Accept", "").lower()

    def _set_fact_headers(self, error: StoreError) -> None:
        super()._set_fact_headers(error)
        if isinstance(error, Unauthenticated):
            self.set_header("WWW-Authenticate", self.challenge())

    def challenge(self) -> str:
        """How one may prove who one is."""
        return REALM
