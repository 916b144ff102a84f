"""Access keys and the system token, as those who administer the store handle them."""

import base64

from frontend.flows.store import Store
from osscore.errors import InvalidArgument, NoSuchAccessKey
from raftmeta.access import Vault, system_token_digest
from raftmeta.commands import Done
from raftmeta.credentials import (
    AccessKeyInfo,
    AccessKeysListed,
    AuditNote,
    ListAccessKeys,
    PutAccessKey,
    RotateAccessKey,
    SetSystemToken,
)

SECRET_CHARS_MIN, SECRET_CHARS_MAX = 16, 128
SYSTEM_TOKEN_CHARS_MIN, SYSTEM_TOKEN_CHARS_MAX = 20, 200
_FIRST_VISIBLE, _LAST_VISIBLE = "!", "~"


def fresh_access_key(store: Store) -> str:
    """A new id: 16 of A-Z and 2-7."""
    return base64.b32encode(store.random(10)).decode()


def fresh_secret(store: Store) -> str:
    """40 characters that nobody can guess."""
    return base64.urlsafe_b64encode(store.random(30)).decode()


async def create_key(
    store: Store, vault: Vault, key: PutAccessKey, secret: str, *, audit: AuditNote
) -> None:
    """Make `key`, whose `secret_sealed` is set here, with that secret.

    Raises AccessKeyExists, InvalidArgument, InvalidName, Conflict (too many).
    """
    command = PutAccessKey(
        access_key=key.access_key,
        secret_sealed=await _sealed(store, vault, secret),
        scopes=key.scopes,
        buckets=key.buckets,
        prefixes=key.prefixes,
        expires_at_ms=key.expires_at_ms,
        note=key.note,
        must_be_new=True,
    )
    await store.meta.propose(command, Done, audit=audit)


async def rotate_key(
    store: Store, vault: Vault, access_key: str, secret: str, *, overlap_s: int, audit: AuditNote
) -> None:
    """Give a key that secret; the former one works for `overlap_s` more.

    Raises NoSuchAccessKey, InvalidArgument.
    """
    command = RotateAccessKey(
        access_key=access_key,
        secret_sealed=await _sealed(store, vault, secret),
        overlap_ms=overlap_s * 1000,
    )
    await store.meta.propose(command, Done, audit=audit)


async def list_keys(store: Store, *, after: str, limit: int) -> AccessKeysListed:
    """A page of keys by id, those that do not work too."""
    return await store.meta.query(ListAccessKeys(after=after, limit=limit), AccessKeysListed)


async def find_key(store: Store, access_key: str) -> AccessKeyInfo:
    """One key, whether it works or not. Raises NoSuchAccessKey."""
    if not access_key:
        raise NoSuchAccessKey()
    query = ListAccessKeys(access_key=access_key, limit=1)
    found = (await store.meta.query(query, AccessKeysListed)).keys
    if not found:
        raise NoSuchAccessKey(f"There is no access key {access_key[:128]!r}.")
    return found[0]


async def set_system_token(store: Store, token: str, *, audit: AuditNote) -> None:
    """Replace the system token; the former one is refused everywhere from here on.

    Raises InvalidArgument unless it has 20 to 200 visible ASCII characters.
    """
    _check_visible("A system token", token, SYSTEM_TOKEN_CHARS_MIN, SYSTEM_TOKEN_CHARS_MAX)
    command = SetSystemToken(digest=system_token_digest(token))
    await store.meta.propose(command, Done, audit=audit)


async def _sealed(store: Store, vault: Vault, secret: str) -> bytes:
    _check_visible("A secret key", secret, SECRET_CHARS_MIN, SECRET_CHARS_MAX)
    return await vault.seal(secret.encode(), store.random)


def _check_visible(what: str, text: str, least: int, most: int) -> None:
    """What travels in headers has no blanks, and no characters that some client encodes."""
    is_visible = all(_FIRST_VISIBLE <= char <= _LAST_VISIBLE for char in text)
    if not least <= len(text) <= most or not is_visible:
        raise InvalidArgument(f"{what} has {least} to {most} visible ASCII characters.")
