"""What every handler of the native dialect does: who may, which arguments, which errors."""

from dataclasses import dataclass
from typing import ClassVar

import msgspec

from frontend.access import Access, Grant
from frontend.config import FrontendConfig
from frontend.credentials import parse_authorization
from frontend.flows.store import Store
from frontend.rest import query
from osscore.errors import StoreError, Unauthenticated
from osscore.model import VersionInfo
from ossd.http import StreamHandler
from ossd.rpc import Rpc

REALM = 'Basic realm="raftoss", charset="UTF-8"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    """What the handlers of this process share."""

    store: Store
    access: Access
    rpc: Rpc
    config: FrontendConfig
    version: str
    pid: int


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

    async def allow(self, scope: str, bucket: str | None = None) -> Grant:
        """Check the caller. Raises Unauthenticated, AccessDenied."""
        credentials = parse_authorization(self.request.headers.get("Authorization"))
        grant = await self.surface.access.grant(credentials)
        grant.require(scope, bucket)
        return grant

    @property
    def arguments(self) -> query.Arguments:
        """The query string's arguments, undecoded."""
        return self.request.query_arguments

    def set_version_headers(self, version: VersionInfo) -> None:
        """Which version an answer is about."""
        self.set_header("X-Version", version.number)
        self.set_header("X-Version-Id", version.version_id)

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
            self.set_header("WWW-Authenticate", REALM)
