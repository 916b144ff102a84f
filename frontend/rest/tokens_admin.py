"""Tokens: `/v1/tokens` makes and revokes them, `/v1/signing-keys` and `/v1/system-token` are
what they hang on."""

import msgspec
from msgspec.structs import replace

from frontend.flows.keys import fresh_secret, set_system_token
from frontend.rest.handler import NativeHandler, Seconds
from frontend.rest.keys import OVERLAP_S_DEFAULT
from frontend.tickets import DOWNLOAD, TTL_S_DEFAULT, UPLOAD, parse_sha256
from osscore.errors import InvalidArgument
from osscore.times import iso_time
from raftmeta.access import DOWNLOAD as DOWNLOAD_SCOPE
from raftmeta.access import UPLOAD as UPLOAD_SCOPE

BUCKET = "files"
"""Where contents named by tokens live, each under its hex SHA-256."""
_KINDS = {"upload": UPLOAD, "download": DOWNLOAD, "both": UPLOAD | DOWNLOAD}


class NewToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `POST /v1/tokens`. `type`: upload, download or both."""

    type: str
    hash: str
    ttl_s: Seconds = TTL_S_DEFAULT
    max_size: int = 0


class NewSystemToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `PUT /v1/system-token`. Empty: one is made up."""

    token: str = ""


class SigningKeyRotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `POST /v1/signing-keys/rotate`."""

    overlap_s: Seconds = OVERLAP_S_DEFAULT


class TokensHandler(NativeHandler):
    """`/v1/tokens`."""

    async def post(self) -> None:
        """A token for one content; needs the same right in the bucket of these."""
        grant = await self.authenticate()
        wanted = await self.read_json(NewToken)
        kind = _KINDS.get(wanted.type)
        if kind is None:
            raise InvalidArgument(f"type is one of {', '.join(_KINDS)}.")
        sha256 = parse_sha256(wanted.hash)
        for bit, scope in ((UPLOAD, UPLOAD_SCOPE), (DOWNLOAD, DOWNLOAD_SCOPE)):
            if kind & bit:
                grant.require(scope, BUCKET, sha256.hex())
        minted = await self.surface.tickets.mint(
            kind, sha256, ttl_s=wanted.ttl_s, max_size_bytes=wanted.max_size
        )
        self.set_header("Cache-Control", "no-store")
        expires_at = iso_time(minted.expires_at_s * 1000)
        self.reply_json(
            {"token": minted.text, "jti": minted.jti, "expires_at": expires_at}, status=201
        )


class TokenHandler(NativeHandler):
    """`/v1/tokens/JTI`."""

    async def delete(self, jti: str) -> None:
        """Revoke the token or link of that id: refused everywhere from here on."""
        note = await self.administer("token.revoke", jti)
        await self.surface.tickets.revoke(jti, note)
        self.set_status(204)


class SigningKeysHandler(NativeHandler):
    """`/v1/signing-keys`."""

    async def get(self) -> None:
        """The keys whose tokens are good, the active one first."""
        await self.note(await self.administer("signing-key.list"))
        keys = await self.surface.tickets.keys()
        self.reply_json(
            {
                "keys": [
                    {
                        "kid": key.kid,
                        "created_at": iso_time(key.created_at_ms),
                        "retires_at": iso_time(key.retires_at_ms) if key.retires_at_ms else None,
                    }
                    for key in keys
                ]
            }
        )


class SigningKeyRotationHandler(NativeHandler):
    """`/v1/signing-keys/rotate`."""

    async def post(self) -> None:
        """Sign with a new key; tokens of former ones end after the overlap."""
        note = await self.administer("signing-key.rotate")
        wanted = await self.read_json(SigningKeyRotation)
        note = replace(note, detail=f"overlap_s={wanted.overlap_s}")
        self.reply_json({"kid": await self.surface.tickets.rotate_key(wanted.overlap_s, note)})


class SystemTokenHandler(NativeHandler):
    """`/v1/system-token`."""

    async def put(self) -> None:
        """Replace it; the former one is refused everywhere from here on."""
        note = await self.administer("system-token.set")
        wanted = await self.read_json(NewSystemToken)
        token = wanted.token or fresh_secret(self.store)
        await set_system_token(self.store, token, audit=note)
        self.set_header("Cache-Control", "no-store")
        self.reply_json({"status": "success"} | ({} if wanted.token else {"token": token}))
