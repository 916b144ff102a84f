"""Access keys: `/v1/keys`. Whoever has the right `admin` without limits administers them."""

import re
from datetime import UTC, datetime
from typing import Final

import msgspec
from msgspec.structs import replace

from frontend.flows.keys import (
    create_key,
    find_key,
    fresh_access_key,
    fresh_secret,
    list_keys,
    rotate_key,
)
from frontend.rest.handler import NativeHandler, Seconds
from frontend.serving import query
from osscore.errors import InvalidArgument
from osscore.times import iso_time
from raftmeta.commands import Done
from raftmeta.credentials import (
    AccessKeyInfo,
    ChangeAccessKey,
    PutAccessKey,
    RevokeAccessKey,
)

OVERLAP_S_DEFAULT: Final = 86_400
_PAGE = 1000
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,127}")
_RESERVED = ("system",)  # who holds the system token is called that in the audit
_TIME_MS_MAX = 1 << 46


class NewKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `POST /v1/keys`. What is left out is made up, or not limited."""

    scopes: tuple[str, ...]
    access_key: str = ""
    secret_key: str = ""
    buckets: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    expires_at: str | msgspec.UnsetType | None = msgspec.UNSET
    expires_s: Seconds | None = None
    note: str = ""


class KeyChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `PATCH /v1/keys/ID`. What is left out stays; `expires_at` null: never."""

    scopes: tuple[str, ...] | None = None
    buckets: tuple[str, ...] | None = None
    prefixes: tuple[str, ...] | None = None
    expires_at: str | msgspec.UnsetType | None = msgspec.UNSET
    expires_s: Seconds | None = None
    note: str | None = None
    disabled: bool | None = None


class KeyRotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `POST /v1/keys/ID/rotate`."""

    overlap_s: Seconds = OVERLAP_S_DEFAULT
    secret_key: str = ""


class KeysHandler(NativeHandler):
    """`/v1/keys`."""

    async def get(self) -> None:
        """A page of keys by id, without their secrets."""
        await self.note(await self.administer("key.list"))
        page = await list_keys(
            self.store,
            after=query.text(self.arguments, "after"),
            limit=query.limit(self.arguments, default=_PAGE, most=_PAGE),
        )
        self.reply_json({"keys": [_shown(key) for key in page.keys], "next": page.next})

    async def post(self) -> None:
        """Make a key; the answer is the only place that ever shows its secret."""
        note = await self.administer("key.create")
        wanted = await self.read_json(NewKey)
        _check_prefixes(wanted)
        key = PutAccessKey(
            access_key=wanted.access_key or fresh_access_key(self.store),
            secret_sealed=b"",
            scopes=wanted.scopes,
            buckets=wanted.buckets,
            prefixes=wanted.prefixes,
            expires_at_ms=_expiry_ms(wanted, self.surface.access.now_ms()) or 0,
            note=wanted.note,
        )
        if not _ID.fullmatch(key.access_key) or key.access_key in _RESERVED:
            raise InvalidArgument(
                "An access key's id has 3 to 128 of A-Z a-z 0-9 . _ -, begins with a letter or "
                f"digit, and is not {_RESERVED[0]!r}."
            )
        if not wanted.scopes:
            raise InvalidArgument("A key has at least one scope.")
        secret = wanted.secret_key or fresh_secret(self.store)
        note = replace(note, target=key.access_key, detail=_told(wanted))
        await create_key(self.store, self.surface.access.vault, key, secret, audit=note)
        shown = _shown(await find_key(self.store, key.access_key))
        self.set_header("Location", f"/v1/keys/{key.access_key}")
        self.set_header("Cache-Control", "no-store")
        self.reply_json({**shown, "secret_key": secret}, status=201)


class KeyHandler(NativeHandler):
    """`/v1/keys/ID`."""

    async def get(self, access_key: str) -> None:
        """One key."""
        await self.note(await self.administer("key.show", access_key))
        self.reply_json(_shown(await find_key(self.store, access_key)))

    async def patch(self, access_key: str) -> None:
        """Change what it may, at once and everywhere."""
        note = await self.administer("key.change", access_key)
        wanted = await self.read_json(KeyChange)
        _check_prefixes(wanted)
        command = ChangeAccessKey(
            access_key=access_key,
            scopes=wanted.scopes,
            buckets=wanted.buckets,
            prefixes=wanted.prefixes,
            expires_at_ms=_expiry_ms(wanted, self.surface.access.now_ms()),
            note=wanted.note,
            disabled=wanted.disabled,
        )
        note = replace(note, detail=_told(wanted))
        await self.store.meta.propose(command, Done, audit=note)
        self.reply_json(_shown(await find_key(self.store, access_key)))

    async def delete(self, access_key: str) -> None:
        """Revoke it: it is refused everywhere from here on, and its links end."""
        note = await self.administer("key.revoke", access_key)
        await self.store.meta.propose(RevokeAccessKey(access_key=access_key), Done, audit=note)
        self.set_status(204)


class KeyRotationHandler(NativeHandler):
    """`/v1/keys/ID/rotate`."""

    async def post(self, access_key: str) -> None:
        """Give it a new secret, shown here only; the former one works on for a while."""
        note = await self.administer("key.rotate", access_key)
        wanted = await self.read_json(KeyRotation)
        secret = wanted.secret_key or fresh_secret(self.store)
        await rotate_key(
            self.store,
            self.surface.access.vault,
            access_key,
            secret,
            overlap_s=wanted.overlap_s,
            audit=replace(note, detail=f"overlap_s={wanted.overlap_s}"),
        )
        found = await find_key(self.store, access_key)
        self.set_header("Cache-Control", "no-store")
        self.reply_json({**_shown(found), "secret_key": secret})


def _check_prefixes(wanted: NewKey | KeyChange) -> None:
    # Here and not where commands are applied, where old entries of the log must end as they did.
    if any("\0" in prefix for prefix in wanted.prefixes or ()):
        raise InvalidArgument("A prefix contains no NUL: no name of an object does.")


def _expiry_ms(wanted: NewKey | KeyChange, now_ms: int) -> int | None:
    """When a key expires: ISO 8601, or seconds from now; 0: never; None: not said.

    Raises InvalidArgument for what is no time, not ahead, or said twice.
    """
    at, in_s = wanted.expires_at, wanted.expires_s
    if at is not msgspec.UNSET and in_s is not None:
        raise InvalidArgument("expires_at and expires_s do not go together.")
    if in_s is not None:
        time_ms = now_ms + in_s * 1000
    elif at is None:
        return 0
    elif at is msgspec.UNSET:
        return None
    else:
        time_ms = _parsed_ms(at)
    if not now_ms < time_ms < _TIME_MS_MAX:
        raise InvalidArgument("The expiry must lie ahead, and before the year 4199.")
    return time_ms


def _parsed_ms(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
        return int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise InvalidArgument(f"expires_at is no ISO 8601 time: {text[:40]!r}.") from error


def _told(wanted: NewKey | KeyChange) -> str:
    """What is asked for, for the audit: never the secret."""
    given = {
        name: value
        for name, value in msgspec.to_builtins(wanted).items()
        if name not in ("access_key", "secret_key")
        and (value not in (None, "", (), []) or (name, value) == ("expires_at", None))
    }
    return msgspec.json.encode(given).decode()


def _shown(key: AccessKeyInfo) -> dict[str, object]:
    return {
        "access_key": key.access_key,
        "scopes": key.scopes,
        "buckets": key.buckets,
        "prefixes": key.prefixes,
        "expires_at": iso_time(key.expires_at_ms) if key.expires_at_ms else None,
        "note": key.note,
        "disabled": key.disabled,
        "created_at": iso_time(key.created_at_ms),
        "changed_at": iso_time(key.changed_at_ms),
        "previous_secret_until": (
            iso_time(key.previous_until_ms) if key.previous_until_ms else None
        ),
    }
