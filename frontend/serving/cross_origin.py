"""Requests that a page of another site makes (the Fetch standard's CORS protocol).

Only for what a browser is handed a right to: a token, the handle of an upload, a link. The
right is in the request itself, never in a cookie, so a page that has it may use it from
anywhere, and one that has not gains nothing by asking.
"""

import re
from typing import ClassVar

from frontend.serving.surface import Surface
from ossd.answering import AnsweringHandler

_ANY = "*"
_MAX_AGE_S = 86_400
_HEADER_NAMES = re.compile(r"[A-Za-z0-9_, -]{1,1000}")
_SHOWN = (
    "Accept-Ranges, Content-Disposition, Content-Range, ETag, Location, Upload-Complete,"
    " Upload-Length, Upload-Offset, X-Request-Id, X-Version, X-Version-Id"
)
"""What the page may read of an answer, beside what it always may."""


class CrossOriginHandler(AnsweringHandler):
    """Mixed into a handler: its answers name the origins that may read them, and a browser
    that asks beforehand is told what it may send."""

    surface: Surface
    cross_origin_methods: ClassVar[tuple[str, ...]] = ()
    """What a page may do here; empty: whatever the resource has verbs for."""

    def initialize(self, surface: Surface) -> None:
        """Take what the process shares."""
        self.surface = surface
        self._name_origin()

    def set_default_headers(self) -> None:
        """See AnsweringHandler: also after everything said so far was taken back."""
        super().set_default_headers()
        if hasattr(self, "surface"):  # the first call comes before `initialize`
            self._name_origin()

    async def options(self, *_args: str, **_kwargs: str) -> None:
        """What a browser asks before it lets a page send the real request."""
        methods = self.cross_origin_methods or self.allowed_methods()
        self.set_header("Allow", ", ".join(self.allowed_methods()))
        self.set_status(204)
        if not self._allowed_origin():
            return
        self.set_header("Access-Control-Allow-Methods", ", ".join(methods))
        self.set_header("Access-Control-Max-Age", _MAX_AGE_S)
        wanted = self.request.headers.get("Access-Control-Request-Headers", "")
        if _HEADER_NAMES.fullmatch(wanted):
            self.set_header("Access-Control-Allow-Headers", wanted)

    def _name_origin(self) -> None:
        allowed = self._allowed_origin()
        if allowed != _ANY:
            self.add_header("Vary", "Origin")
        if allowed:
            self.set_header("Access-Control-Allow-Origin", allowed)
            self.set_header("Access-Control-Expose-Headers", _SHOWN)

    def _allowed_origin(self) -> str:
        """The origin that may read this answer, `*` for all; empty: none may."""
        origins = self.surface.config.cors_origins
        if _ANY in origins:
            return _ANY
        origin = self.request.headers.get("Origin", "")
        return origin if origin in origins else ""
