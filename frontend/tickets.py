"""Tokens that let whoever holds them do one thing for a while, without an access key.

An upload or download token is for one content, by its SHA-256; a share for one version of an
object; an upload handle names a resumable upload. Tokens are signed with a key of the catalog
and checked with one linearizable question, so that whatever is revoked is so at once.
"""

import asyncio
import base64
import binascii
import hmac
import re
from dataclasses import dataclass

import msgspec
from blake3 import blake3

from frontend import ticket_format
from frontend.ticket_format import Claim, Payload
from osscore.errors import (
    AccessDenied,
    ExpiredToken,
    InvalidArgument,
    NoSuchUpload,
    RevokedToken,
    WrongTokenType,
)
from ossd.clock import RandomBytes
from raftmeta.access import DOWNLOAD as DOWNLOAD_SCOPE
from raftmeta.access import Access, Grant, Vault
from raftmeta.client import MetaClient
from raftmeta.commands import Done
from raftmeta.credentials import (
    TOKEN_LIFE_MS_MAX,
    AuditNote,
    CheckToken,
    FindSigningKeys,
    RevokeTokens,
    RotateSigningKey,
    SigningKey,
    SigningKeysFound,
    TokenChecked,
)

UPLOAD = 1
DOWNLOAD = 2
SHARE = 4
TTL_S_DEFAULT = 86_400
TTL_S_MAX = TOKEN_LIFE_MS_MAX // 1000
ATTACHMENT, INLINE = "attachment", "inline"

_KEYS_KNOWN_MAX = 64
_UPLOAD_ID_BYTES = 16
_HANDLE_MAC_BYTES = 16
_HANDLES = "upload handles"
_SHA256_HEX = re.compile(r"[0-9a-fA-F]{64}")
_DAEMONS_ID = re.compile(r"f{12}[0-9a-f]{20}", re.IGNORECASE)  # docs/formats/temp.md
_DAY_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Minted:
    """A fresh token. `expires_at_s` in Unix seconds."""

    text: str
    jti: str
    expires_at_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A good upload or download token. `max_size_bytes` 0: any size."""

    may_upload: bool
    may_download: bool
    sha256: bytes
    max_size_bytes: int
    created_at_s: int
    expires_at_s: int
    kid: str
    jti: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A good link to one version of an object; `disposition`: attachment or inline."""

    bucket: str
    key: str
    number: int
    disposition: str
    owner: str
    expires_at_s: int
    jti: str


class Tickets:
    """Makes and checks tokens. Use from one event loop."""

    def __init__(self, meta: MetaClient, access: Access, *, random: RandomBytes) -> None:
        self._meta = meta
        self._access = access
        self._random = random
        self._secrets: dict[str, bytes] = {}  # of a kid it never changes

    async def mint(
        self,
        kind: int,
        sha256: bytes,
        *,
        ttl_s: int = TTL_S_DEFAULT,
        max_size_bytes: int = 0,
    ) -> Minted:
        """A token of `kind` (UPLOAD, DOWNLOAD or both) for one content.

        Raises InvalidArgument unless 1 <= ttl_s <= TTL_S_MAX and the rest makes sense.
        """
        if kind not in (UPLOAD, DOWNLOAD, UPLOAD | DOWNLOAD):
            raise InvalidArgument("A token is for uploading, downloading or both.")
        if len(sha256) != 32 or not 0 <= max_size_bytes < 1 << 63:
            raise InvalidArgument("A token is for one SHA-256, and a size from 0.")
        now_s = self._access.now_ms() // 1000
        payload = Payload(
            token_type=kind,
            expire_at=now_s + _checked_ttl_s(ttl_s, "token"),
            create_time=now_s,
            hash=sha256.hex(),
            kid="",
            jti=self._random(12).hex(),
            max_size=max_size_bytes,
        )
        return await self._sign(payload)

    async def check(self, text: str, needs: int) -> Ticket:
        """The token, if it is good now and for all that `needs` says (UPLOAD, DOWNLOAD).

        Raises MalformedToken, ForgedToken, ExpiredToken, RevokedToken (401), WrongTokenType
        (403), or Unavailable if nobody can tell.
        """
        payload = (await self._verified(text)).payload
        if payload.token_type & needs != needs or payload.token_type & SHARE:
            raise WrongTokenType()
        return Ticket(
            may_upload=bool(payload.token_type & UPLOAD),
            may_download=bool(payload.token_type & DOWNLOAD),
            sha256=bytes.fromhex(payload.hash),
            max_size_bytes=payload.max_size,
            created_at_s=payload.create_time,
            expires_at_s=payload.expire_at,
            kid=payload.kid,
            jti=payload.jti,
        )

    async def mint_share(
        self, grant: Grant, bucket: str, key: str, number: int, *, ttl_s: int, disposition: str
    ) -> Minted:
        """A link to one version, which ends with the access key that made it at the latest.

        Raises AccessDenied unless that key may download it, InvalidArgument.
        """
        grant.require(DOWNLOAD_SCOPE, bucket, key)
        if disposition not in (ATTACHMENT, INLINE):
            raise InvalidArgument("A share is an attachment or shown inline.")
        now_s = self._access.now_ms() // 1000
        expires_at_s = now_s + _checked_ttl_s(ttl_s, "link")
        if grant.expires_at_ms:
            expires_at_s = min(expires_at_s, grant.expires_at_ms // 1000)
        payload = Payload(
            token_type=SHARE,
            expire_at=expires_at_s,
            create_time=now_s,
            kid="",
            jti=self._random(12).hex(),
            bucket=bucket,
            key=key,
            number=number,
            disposition=disposition,
            owner=grant.access_key,
            owner_since=grant.created_at_ms,
        )
        return await self._sign(payload)

    async def check_share(self, text: str) -> Share:
        """The link, if it is good now and its owner still may download what it shares.

        Raises as `check` does.
        """
        claim = ticket_format.read(text)
        owner, _ = await asyncio.gather(self._access.find(claim.payload.owner), self._verify(claim))
        payload = claim.payload
        if payload.token_type != SHARE:
            raise WrongTokenType()
        if (
            owner is None
            or owner.created_at_ms != payload.owner_since
            or not owner.may(DOWNLOAD_SCOPE, payload.bucket, payload.key)
        ):
            raise RevokedToken("The access key that shared this may not do so any more.")
        return Share(
            bucket=payload.bucket,
            key=payload.key,
            number=payload.number,
            disposition=payload.disposition,
            owner=payload.owner,
            expires_at_s=payload.expire_at,
            jti=payload.jti,
        )

    # --- keys and revocation -----------------------------------------------------------------

    async def keys(self) -> tuple[SigningKey, ...]:
        """The keys whose tokens are good, the active one first; none before the first token."""
        return (await self._meta.query(FindSigningKeys(), SigningKeysFound)).keys

    async def rotate_key(self, overlap_s: int, audit: AuditNote) -> str:
        """Sign with a new key, whose id is answered; tokens of former ones end after
        `overlap_s` at the latest. Raises InvalidArgument, Conflict."""
        return await self._new_key(overlap_ms=overlap_s * 1000, only_if_none=False, audit=audit)

    async def revoke(self, jti: str, audit: AuditNote) -> None:
        """Take a token back by its id, everywhere at once. Raises InvalidArgument, Conflict."""
        await self._meta.propose(RevokeTokens(jtis=(jti,)), Done, audit=audit)

    async def _new_key(
        self, *, overlap_ms: int, only_if_none: bool, audit: AuditNote | None
    ) -> str:
        kid = self._random(6).hex()
        secret = self._random(ticket_format.SECRET_BYTES)
        command = RotateSigningKey(
            kid=kid,
            secret_sealed=await self._access.vault.seal(secret, self._random),
            overlap_ms=overlap_ms,
            only_if_none=only_if_none,
        )
        await self._meta.propose(command, Done, audit=audit)
        return kid

    async def _active_key(self) -> SigningKey:
        keys = await self.keys()
        if not keys:
            # Whoever else finds none does the same, and the catalog takes one of them.
            await self._new_key(overlap_ms=0, only_if_none=True, audit=None)
            keys = await self.keys()
        return keys[0]

    # --- signing and checking ----------------------------------------------------------------

    async def _sign(self, payload: Payload) -> Minted:
        key = await self._active_key()
        signed = _with_kid(payload, key.kid)
        text = ticket_format.write(signed, await self._secret(key))
        return Minted(text=text, jti=payload.jti, expires_at_s=payload.expire_at)

    async def _verified(self, text: str) -> Claim:
        claim = ticket_format.read(text)
        await self._verify(claim)
        return claim

    async def _verify(self, claim: Claim) -> None:
        payload = claim.payload
        known = self._secrets.get(payload.kid)
        if known is not None:
            claim.verify(known)  # what is forged costs the catalog nothing
        checked = await self._meta.query(CheckToken(kid=payload.kid, jti=payload.jti), TokenChecked)
        claim.verify(await self._secret(checked.key))
        if payload.expire_at * 1000 <= self._access.now_ms():
            raise ExpiredToken()

    async def _secret(self, key: SigningKey) -> bytes:
        known = self._secrets.get(key.kid)
        if known is None:
            known = await self._access.vault.open(key.secret_sealed)
            if len(self._secrets) >= _KEYS_KNOWN_MAX:
                self._secrets.clear()
            self._secrets[key.kid] = known
        return known


class UploadHandles:
    """Names of resumable uploads that nobody can guess or make up."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    async def seal(self, upload: bytes) -> str:
        """The handle of a 16-byte upload id: 43 characters fit for a path."""
        assert len(upload) == _UPLOAD_ID_BYTES
        return _urlsafe(upload + await self._mac(upload))

    async def open(self, text: str) -> bytes:
        """The upload id. Raises AccessDenied for any text that `seal` did not make; NoSuchUpload
        for the id of an upload that a blob daemon took, which says nothing here."""
        if _DAEMONS_ID.fullmatch(text):
            raise NoSuchUpload(
                "That upload went to a blob daemon, and no frontend knows it: ask the daemon that"
                " took it."
            )
        try:
            raw = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise AccessDenied("This is no upload of ours.") from error
        upload, mac = raw[:_UPLOAD_ID_BYTES], raw[_UPLOAD_ID_BYTES:]
        is_ours = hmac.compare_digest(mac, await self._mac(upload))
        # One handle has one spelling: the last character has bits to spare.
        if not is_ours or _urlsafe(raw) != text:
            raise AccessDenied("This is no upload of ours.")
        return upload

    async def _mac(self, upload: bytes) -> bytes:
        key = await self._vault.derive(_HANDLES)
        return blake3(upload, key=key).digest(length=_HANDLE_MAC_BYTES)


def parse_sha256(text: str) -> bytes:
    """The content a token is for, 64 hex digits of either case. Raises InvalidArgument."""
    if not _SHA256_HEX.fullmatch(text):
        raise InvalidArgument("hash must be the SHA-256 of the content: 64 hex digits.")
    return bytes.fromhex(text)


def _checked_ttl_s(ttl_s: int, what: str) -> int:
    if not 1 <= ttl_s <= TTL_S_MAX:
        days, rest_s = divmod(ttl_s, _DAY_S)
        said = f"{days} days" if days > 1 and not rest_s else f"{ttl_s} seconds"
        raise InvalidArgument(
            f"A {what} lives at least a second and at most {TTL_S_MAX // _DAY_S} days"
            f" ({TTL_S_MAX} seconds), not {said}."
        )
    return ttl_s


def _with_kid(payload: Payload, kid: str) -> Payload:

    return msgspec.structs.replace(payload, kid=kid)


def _urlsafe(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
