"""The language of credentials: how access keys, tokens and the audit change, and are asked for.

Commands and queries like all others (`raftmeta.commands`, `raftmeta.queries`).
"""

import msgspec

from raftmeta.commands import (
    Command,
    CreateBucket,
    DeleteObject,
    DeleteVersion,
    PutObject,
    Undelete,
)
from raftmeta.queries import Answer, Query

TOKEN_LIFE_MS_MAX = 30 * 86_400_000
"""No token lives longer, so that a revocation need not be kept for ever."""

# --- commands --------------------------------------------------------------------------------


class PutAccessKey(Command, frozen=True, kw_only=True):
    """Create or replace an access key. `scopes`: of 'upload', 'download', 'info', 'delete',
    'admin'. `buckets` empty: all. `prefixes` empty: all; else an object's key must begin
    with one. `expires_at_ms` 0: never. `must_be_new`: refused AccessKeyExists instead of
    replacing. Refused LastAdminKey, InvalidArgument."""

    access_key: str
    secret_sealed: bytes
    scopes: tuple[str, ...]
    buckets: tuple[str, ...] = ()
    expires_at_ms: int = 0
    note: str = ""
    prefixes: tuple[str, ...] = ()
    must_be_new: bool = False


class ChangeAccessKey(Command, frozen=True, kw_only=True):
    """Change what an access key may; None: stays. Its secret stays.

    `disabled`: it works no more, until enabled again. Refused NoSuchAccessKey, InvalidArgument,
    LastAdminKey (nobody would be left who may everything for ever).
    """

    access_key: str
    scopes: tuple[str, ...] | None = None
    buckets: tuple[str, ...] | None = None
    prefixes: tuple[str, ...] | None = None
    expires_at_ms: int | None = None
    note: str | None = None
    disabled: bool | None = None


class RotateAccessKey(Command, frozen=True, kw_only=True):
    """Give an access key a new secret; the one before stays valid for `overlap_ms` of catalog
    time, the one before that no longer. Refused NoSuchAccessKey, InvalidArgument."""

    access_key: str
    secret_sealed: bytes
    overlap_ms: int = 0


class RevokeAccessKey(Command, frozen=True, kw_only=True):
    """Remove an access key. Refused NoSuchAccessKey, LastAdminKey."""

    access_key: str


KeyedCommand = PutObject | DeleteObject | DeleteVersion | Undelete | CreateBucket
"""What a request by an access key ends in, where the key is judged with it."""


class IfKeyUnchanged(Command, frozen=True, kw_only=True):
    """Apply `command` if the access key that asks for it is now what it was when its caller was
    checked, and works: it has not changed since `changed_at_ms`, nor expired. Answers as `command`.

    `is_former_secret`: the caller proved to know the secret before the last rotation, so its
    overlap must not be over. Refused KeyChanged, which leaves no row of the audit: whoever
    proposed this checks the caller again, and says what the catalog answers to that.
    """

    access_key: str
    changed_at_ms: int
    is_former_secret: bool = False
    command: KeyedCommand


class SetSystemToken(Command, frozen=True, kw_only=True):
    """Replace the system token; the former one is worth nothing from here on. `digest`:
    BLAKE3-256 of the token. Refused InvalidArgument."""

    digest: bytes


class RotateSigningKey(Command, frozen=True, kw_only=True):
    """Sign tokens with a new key from here on.

    Tokens of all former keys stay valid for at most `overlap_ms` more; 0: not a moment.
    `only_if_none`: no change while a key is active, so that of several who find none and
    make one, one wins. Refused InvalidArgument, Conflict (too many keys still valid).
    """

    kid: str
    secret_sealed: bytes
    overlap_ms: int = 0
    only_if_none: bool = False


class RevokeTokens(Command, frozen=True, kw_only=True):
    """Tokens with these `jti` are worth nothing from here on, whether they were seen before or
    not. At most 100 at once (CommandTooLarge). Refused InvalidArgument, Conflict (too many
    are revoked one by one: rotate the signing key instead)."""

    jtis: tuple[str, ...]


class AuditNote(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who uses an administrative right, for what: becomes one row of the audit, which adds
    catalog time and outcome. `actor`: an access key's id, or 'system' for the system token.
    `source`: the address the request came from."""

    actor: str
    action: str
    target: str = ""
    detail: str = ""
    request_id: str = ""
    source: str = ""


class NoteAudit(Command, frozen=True, kw_only=True):
    """Changes nothing: carries an AuditNote for the use of a right that only reads."""


# --- queries ---------------------------------------------------------------------------------


class FindAccessKey(Query, frozen=True, kw_only=True):
    """Answers AccessKeyFound, or KeysUnchanged where `known_epoch` is still the keys' epoch.
    Refused NoSuchAccessKey (unknown, disabled or expired)."""

    access_key: str
    known_epoch: int = -1


class AccessKeyFound(Answer, frozen=True, kw_only=True):
    """A key that works. `previous_sealed`: the secret before the last rotation, valid while
    catalog time is below `previous_until_ms`; empty: none. `created_at_ms` tells a key from
    a later one of the same id, `changed_at_ms` (catalog time) from what it was before: see
    IfKeyUnchanged, which a metanode that does not say it (0) would not understand."""

    access_key: str
    secret_sealed: bytes
    scopes: tuple[str, ...]
    buckets: tuple[str, ...]
    expires_at_ms: int
    prefixes: tuple[str, ...] = ()
    previous_sealed: bytes = b""
    previous_until_ms: int = 0
    created_at_ms: int = 0
    changed_at_ms: int = 0


class KeysUnchanged(Answer, frozen=True, kw_only=True):
    """No access key has changed since the epoch asked with: what was read then still holds."""


class ListAccessKeys(Query, frozen=True, kw_only=True):
    """Access keys by id, those that do not work too. `after`: exclusive. `access_key` not
    empty: that one alone. Answers AccessKeysListed."""

    after: str = ""
    access_key: str = ""
    limit: int = 1000


class AccessKeyInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An access key without its secrets. `previous_until_ms`: how long the secret before the
    last rotation stays valid, 0: it is not."""

    access_key: str
    scopes: tuple[str, ...]
    buckets: tuple[str, ...]
    prefixes: tuple[str, ...]
    expires_at_ms: int
    note: str
    disabled: bool
    created_at_ms: int
    changed_at_ms: int
    previous_until_ms: int


class AccessKeysListed(Answer, frozen=True, kw_only=True):
    """`next` is None at the end, else the `after` of the next page."""

    keys: tuple[AccessKeyInfo, ...]
    next: str | None = None


class FindSystemToken(Query, frozen=True, kw_only=True):
    """Answers SystemTokenFound."""


class SystemTokenFound(Answer, frozen=True, kw_only=True):
    """`digest`: BLAKE3-256 of the system token."""

    digest: bytes


class FindSigningKeys(Query, frozen=True, kw_only=True):
    """The keys whose tokens are valid now. Answers SigningKeysFound."""


class SigningKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that signs tokens. `retires_at_ms` 0: the active one, which signs new ones."""

    kid: str
    secret_sealed: bytes
    created_at_ms: int
    retires_at_ms: int


class SigningKeysFound(Answer, frozen=True, kw_only=True):
    """Newest first; none before the first token."""

    keys: tuple[SigningKey, ...]


class CheckToken(Query, frozen=True, kw_only=True):
    """Is a token signed by `kid` and called `jti` still good? Answers TokenChecked. Refused
    RevokedToken (the token itself, or no key `kid` is in use any more)."""

    kid: str
    jti: str


class TokenChecked(Answer, frozen=True, kw_only=True):
    """It is, if its MAC is right under this key."""

    key: SigningKey


class ListAudit(Query, frozen=True, kw_only=True):
    """A page of the audit. Answers AuditListed.

    `after`: exclusive, in the order asked for; 0: from the beginning. `actor`, `action`
    empty: all; `action` also matches those that begin with it and a dot.
    """

    after: int = 0
    newest_first: bool = False
    limit: int = 100
    actor: str = ""
    action: str = ""


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """One use of an administrative right. `outcome`: 'done' or the code of the refusal."""

    number: int
    at_ms: int
    actor: str
    action: str
    target: str
    detail: str
    request_id: str
    source: str
    outcome: str


class AuditListed(Answer, frozen=True, kw_only=True):
    """`next` is None at the end, else the `after` of the next page. A page may be short, even
    empty, before the end: rows that do not match are visited too, 10,000 at most."""

    rows: tuple[AuditRow, ...]
    next: int | None = None
