"""What every handler of the token dialect does: who may, which token, the envelope."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import msgspec

from frontend.flows.files import BUCKET
from frontend.flows.store import Store
from frontend.serving.query import Arguments
from frontend.serving.surface import Surface
from frontend.tickets import Ticket
from frontend.tokens.codes import Told, told
from osscore.errors import MalformedToken, NotFound, StoreError, Unauthenticated
from ossd.answering import AnsweringHandler
from ossd.credentials import parse_authorization
from ossd.http import Handler, StreamHandler
from raftmeta.access import ADMIN, SYSTEM, Grant

_CHALLENGE = 'Bearer realm="raftoss"'
_BEARER = "bearer "


@dataclass(frozen=True, slots=True)
class CallingSystem:
    """Who presents a request that a browser must not be able to make.

    `actor`: `system`, which may everything, or the id of an access key, with its `grant`.
    """

    actor: str
    grant: Grant | None

    def require(self, scope: str, sha256: bytes | None = None) -> None:
        """Raises AccessDenied unless it has `scope` for that file; None: for all files."""
        if self.grant is not None:
            key = sha256.hex() if sha256 is not None else None
            self.grant.require(scope, None if scope == ADMIN else BUCKET, key)


class TokenAnswers(AnsweringHandler):
    """Credentials and answers, however a handler takes its body."""

    api: ClassVar[str] = "tokens"
    codes: ClassVar[Mapping[type[StoreError], int]] = {}
    """What these errors are called here, where the table says something more general."""
    takes_links: ClassVar[bool] = False
    """Whether the token may stand in the query string."""

    def initialize(self, surface: Surface) -> None:
        """Take what the process shares."""
        self.surface = surface

    @property
    def store(self) -> Store:
        """What flows work with."""
        return self.surface.store

    @property
    def arguments(self) -> Arguments:
        """Arguments of the query string, and of the form if the handler reads one."""
        return self.request.arguments

    # --- who may -----------------------------------------------------------------------------

    async def ticket(self, needs: int) -> Ticket:
        """The token of the request, if it is good for `needs` (see Tickets.check).

        Raises MalformedToken if there is none.
        """
        text = self._token()
        if not text:
            also = ", or in the link as `?token=TOKEN`" if self.takes_links else ""
            raise MalformedToken(
                f"This needs a token: in a header `token`, as `Authorization: Bearer TOKEN`{also}."
            )
        return await self.surface.tickets.check(text, needs)

    async def calling_system(self) -> CallingSystem:
        """Who calls, by the system token or by an access key. Raises Unauthenticated."""
        text = self.request.headers.get("systemToken")
        if text is not None:
            await self.surface.access.system_token(text)
            return CallingSystem(SYSTEM, None)
        header = self.request.headers.get("Authorization")
        if not header or self._bearer_token():
            raise Unauthenticated("This needs the system token, in a header `systemToken`.")
        grant = await self.surface.access.grant(parse_authorization(header))
        return CallingSystem(grant.access_key, grant)

    def _token(self) -> str:
        token = self.request.headers.get("token", "").strip() or self._bearer_token()
        if not token and self.takes_links:
            token = self.request.query_arguments.get("token", [b""])[-1].decode("latin-1").strip()
        return token

    def _bearer_token(self) -> str:
        """The token in Authorization, if it is no access key and its secret."""
        header = self.request.headers.get("Authorization", "")
        text = header[len(_BEARER) :].strip()
        return text if header.lower().startswith(_BEARER) and ":" not in text else ""

    # --- answers -----------------------------------------------------------------------------

    def reply(self, data: object) -> None:
        """Answer success."""
        self.set_header("Cache-Control", "no-store")
        self.reply_json({"status": True, "code": 200, "msg": "", "data": data})

    def error_status(self, error: StoreError) -> int:
        """See AnsweringHandler."""
        return told(error).http_status

    def render_error(self, error: StoreError) -> tuple[str, bytes]:
        """See AnsweringHandler."""
        failure = {"status": False, "code": self._told(error).code, "msg": error.message}
        return "application/json", msgspec.json.encode({**failure, "data": None})

    def _told(self, error: StoreError) -> Told:
        general = told(error)
        for kind in type(error).__mro__:
            if kind in self.codes:
                return general._replace(code=self.codes[kind])
        return general

    def _set_fact_headers(self, error: StoreError) -> None:
        super()._set_fact_headers(error)
        if self.error_status(error) == 401:
            # Not Basic: a browser would ask its user for a password that helps nobody.
            self.set_header("WWW-Authenticate", _CHALLENGE)


class TokenHandler(TokenAnswers, Handler):
    """A request whose body, if any, is short: a form or JSON."""

    body_bytes_max: ClassVar[int] = 64 * 1024


class UnknownTokenPath(TokenHandler):
    """Whatever lies among the paths of this dialect and is none of them: any method finds none."""

    def _admit(self) -> None:
        raise NotFound(f"There is no resource {self.request.path[:200]!r}.")


class TokenFormHandler(TokenHandler):
    """A request whose arguments come in the query string of a GET or in the form of a POST.

    There is no HEAD: the GET does something.
    """

    def allowed_methods(self) -> tuple[str, ...]:
        """See AnsweringHandler."""
        return "GET", "POST"

    async def get(self) -> None:
        """With a query string."""
        await self.act()

    async def post(self) -> None:
        """With a form."""
        await self.act()

    async def act(self) -> None:
        """What the request is for."""
        raise NotImplementedError


class TokenStreamHandler(TokenAnswers, StreamHandler):
    """A request whose body, or whose answer, may be of any length."""

    async def reply_at_once(self, data: object) -> None:
        """Answer before the body was read, and let it pass: many clients look for an answer
        only when they have sent everything, and take a closed connection for a failure."""
        self.reply(data)
        if "Expect" in self.request.headers:
            return  # it waits to be asked for its body, and is not
        self.set_header("Content-Length", sum(len(part) for part in self._write_buffer))
        self.flush()
        async for _ in self.body_stream:
            pass
