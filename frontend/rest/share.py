"""Links to one version of an object that any browser opens: `/v1/shares`, `/share/TOKEN/NAME`.

What they lead to is somebody's content on our own origin: it may not run there, nor be kept by
caches that would outlast the link.
"""

from collections.abc import Iterator
from html import escape
from urllib.parse import quote

import msgspec

from frontend.flows.objects import ObjectRef, find_object
from frontend.rest.handler import NativeHandler, Seconds
from frontend.rest.objects import version_headers
from frontend.serving.sending import ObjectAnswer
from frontend.tickets import ATTACHMENT, INLINE, Share
from osscore import paths
from osscore.disposition import content_disposition, file_name
from osscore.errors import (
    ExpiredToken,
    ForgedToken,
    MalformedToken,
    NoSuchKey,
    NotFound,
    RevokedToken,
    StoreError,
    WrongTokenType,
)
from osscore.model import VersionInfo
from osscore.names import BucketName
from osscore.times import iso_time
from raftmeta.access import DOWNLOAD

EXPIRES_S_DEFAULT = 3600
_GUARDS = {
    "X-Content-Type-Options": "nosniff",
    # The link itself is the secret: it must not travel on with a click in what it shows.
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex",
    # Asked again each time, so that a link that was taken back shows nothing.
    "Cache-Control": "private, no-cache",
}
_SANDBOX = (
    "default-src 'none'; img-src 'self' data:; media-src 'self'; style-src 'unsafe-inline'; sandbox"
)
_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:20vh auto;padding:0 1rem}}
small{{opacity:.6}}</style></head>
<body><h1>{title}</h1><p>{message}</p><p><small>{code}, request {request_id}</small></p>
</body></html>
"""
_NOT_WHOLE = (
    "It is not whole, or it was changed on its way. Open it exactly as it was sent to you, to its"
    " last character."
)
_TITLES = {
    401: "This link does not work",
    403: "This link is for something else",
    404: "What this link shows is gone",
    503: "Not now",
}


_FOR_PEOPLE: dict[type[StoreError], str] = {
    MalformedToken: _NOT_WHOLE,
    ForgedToken: _NOT_WHOLE,
    ExpiredToken: "It was good for a while only, and that is over. Ask who sent it for a new one.",
    RevokedToken: "It was taken back, or who made it may not share this any more.",
    WrongTokenType: "It is good for something, but not for showing anything here.",
    NotFound: "It was removed after the link was made.",
}
"""What a link that shows nothing is to whoever opens it; other errors say it themselves."""


class NewShare(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `POST /v1/shares`. `version` left out: the one that is current now."""

    key: str
    bucket: str = paths.DEFAULT_BUCKET
    version: int | None = None
    expires_s: Seconds = EXPIRES_S_DEFAULT
    attachment: bool = False


class SharesHandler(NativeHandler):
    """`/v1/shares`."""

    async def post(self) -> None:
        """A link, which ends when it expires, or with the access key that makes it here."""
        grant = await self.authenticate()
        wanted = await self.read_json(NewShare)
        bucket, key = str(BucketName.parse(wanted.bucket)), paths.key(wanted.key)
        grant.require(DOWNLOAD, bucket, key)
        ref = ObjectRef(bucket=bucket, key=key, number=wanted.version)
        version = (await find_object(self.store, ref, head_only=True)).version
        if version.is_marker:
            raise NoSuchKey(f"Version {version.number} is a delete marker.")
        minted = await self.surface.tickets.mint_share(
            grant,
            bucket,
            key,
            version.number,
            ttl_s=wanted.expires_s,
            disposition=ATTACHMENT if wanted.attachment else INLINE,
        )
        self.set_header("Cache-Control", "no-store")
        self.reply_json(
            {
                "url": f"{self._origin()}/share/{minted.text}/{quote(file_name(key), safe='')}",
                "token": minted.text,
                "jti": minted.jti,
                "version": version.number,
                "expires_at": iso_time(minted.expires_at_s * 1000),
            },
            status=201,
        )

    def _origin(self) -> str:
        """Where a browser finds us: as configured, else as this request did."""
        configured = self.surface.config.public_url.rstrip("/")
        return configured or f"{self.request.protocol}://{self.request.host}"


class ShareHandler(NativeHandler):
    """`/share/TOKEN` and `/share/TOKEN/NAME`; the name is for the browser's address bar only."""

    async def get(self, token: str) -> None:
        """The object: ranges, conditions, for whoever holds the link."""
        share = await self.surface.tickets.check_share(token)
        answer = ObjectAnswer(self, self.store)
        ref = ObjectRef(bucket=share.bucket, key=share.key, number=share.number)
        found = await find_object(self.store, ref, first=answer.first)
        await answer.send(found, _headers(share, found.version))

    def render_error(self, error: StoreError) -> tuple[str, bytes]:
        """A page for people; text for tools."""
        for name, value in _GUARDS.items():
            self.set_header(name, value)
        self.set_header("Content-Security-Policy", _PAGE_POLICY)
        message = next((_FOR_PEOPLE[k] for k in type(error).__mro__ if k in _FOR_PEOPLE), "")
        if "text/html" not in self.request.headers.get("Accept", ""):
            said = message or error.message
            return "text/plain; charset=utf-8", f"{error.code}: {said}\n".encode()
        page = _PAGE.format(
            title=_TITLES.get(error.http_status, "This did not work"),
            message=escape(message or error.message),
            code=error.code,
            request_id=self.request_id,
        )
        return "text/html; charset=utf-8", page.encode()

    def challenge(self) -> str:
        """Not Basic: a browser would ask its user for a password that helps nobody."""
        return 'Bearer realm="raftoss share"'


def _headers(share: Share, version: VersionInfo) -> Iterator[tuple[str, str]]:
    """The object's own headers, then ours, which win."""
    yield from version_headers(version)
    yield from _GUARDS.items()
    yield "Content-Disposition", content_disposition(share.disposition, file_name(share.key))
    kind = version.attributes.content.get("content-type", "").partition(";")[0].strip().lower()
    # Browsers show a PDF in a viewer of their own, not as part of our origin, and in a sandbox
    # not at all.
    if kind != "application/pdf":
        yield "Content-Security-Policy", _SANDBOX
