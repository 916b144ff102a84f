"""Access keys, the system token, the keys that sign tokens, and tokens taken back.

Frontends remember access keys for as long as `keys_epoch` stays what it was: every change of
one raises it. Whoever could lock everybody out is refused (`LastAdminKey`).
"""

import re
from collections.abc import Collection

import msgspec

from osscore.errors import (
    AccessKeyExists,
    CommandTooLarge,
    Conflict,
    InvalidArgument,
    LastAdminKey,
    NoSuchAccessKey,
)
from osscore.names import OBJECT_KEY_BYTES_MAX, BucketName
from raftmeta.catalog.transaction import Transaction
from raftmeta.commands import Done
from raftmeta.credentials import (
    TOKEN_LIFE_MS_MAX,
    ChangeAccessKey,
    IfKeyUnchanged,
    PutAccessKey,
    RevokeAccessKey,
    RevokeTokens,
    RotateAccessKey,
    RotateSigningKey,
    SetSystemToken,
)

SCOPES = ("upload", "download", "info", "delete", "admin")
ACCESS_KEYS_MAX = 10_000
LIMITS_MAX = 100
"""Most buckets, and most prefixes, that one key is limited to."""
OVERLAP_MS_MAX = 30 * 86_400_000
SIGNING_KEYS_MAX = 32
"""Most keys whose tokens are valid at the same time."""
REVOKED_MAX = 100_000
REVOKED_AT_ONCE = 100
DIGEST_BYTES = 32

_ID_CHARS_MAX = 128
_NOTE_CHARS_MAX = 200
_SEALED_BYTES_MAX = 1024
_KEPT_AFTER_MS = 3_600_000  # clocks of frontends, which date tokens, may be off by so much
_TOKEN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LASTING_ADMIN = (
    "disabled = 0 AND expires_at_ms = 0 AND buckets = '[]' AND prefixes = '[]'"
    " AND instr(scopes, '\"admin\"') > 0"
)


def put_access_key(tx: Transaction, command: PutAccessKey) -> Done:
    """Create or replace a key. Refuses AccessKeyExists, LastAdminKey, InvalidArgument,
    Conflict (too many keys)."""
    access_key = command.access_key
    if not 0 < len(access_key) <= _ID_CHARS_MAX or not access_key.isprintable():
        raise InvalidArgument(f"An access key has an id of 1 to {_ID_CHARS_MAX} characters.")
    _check_limits(command.scopes, command.buckets, command.prefixes, command.note)
    _check_sealed(command.secret_sealed)
    known = tx.db.execute(
        "SELECT created_at_ms FROM access_keys WHERE access_key = ?", (access_key,)
    ).fetchone()
    if known is not None and command.must_be_new:
        raise AccessKeyExists(f"There is an access key {access_key!r} already.")
    if known is None and tx.meta.number("total_access_keys") >= ACCESS_KEYS_MAX:
        raise Conflict(f"There are {ACCESS_KEYS_MAX} access keys already.")
    was_admin = _is_lasting_admin(tx, access_key)
    tx.db.execute(
        "INSERT OR REPLACE INTO access_keys (access_key, secret_sealed, scopes, buckets,"
        " prefixes, expires_at_ms, note, created_at_ms, changed_at_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            access_key,
            command.secret_sealed,
            _json(command.scopes),
            _json(command.buckets),
            _json(command.prefixes),
            command.expires_at_ms,
            command.note,
            known[0] if known else tx.time_ms,
            tx.time_ms,
        ),
    )
    if known is None:
        tx.meta.add("total_access_keys", 1)
    _refuse_lockout(tx, was_admin=was_admin)
    return _keys_changed(tx)


def change_access_key(tx: Transaction, command: ChangeAccessKey) -> Done:
    """Change what a key may. Refuses NoSuchAccessKey, LastAdminKey, InvalidArgument."""
    _require(tx, command.access_key)
    _check_limits(
        command.scopes or (), command.buckets or (), command.prefixes or (), command.note or ""
    )
    if command.scopes == ():
        raise InvalidArgument("A key has at least one scope; disable it or revoke it instead.")
    was_admin = _is_lasting_admin(tx, command.access_key)
    changes = {
        "scopes": None if command.scopes is None else _json(command.scopes),
        "buckets": None if command.buckets is None else _json(command.buckets),
        "prefixes": None if command.prefixes is None else _json(command.prefixes),
        "expires_at_ms": command.expires_at_ms,
        "note": command.note,
        "disabled": command.disabled,
    }
    for column, value in changes.items():
        if value is not None:
            tx.db.execute(
                f"UPDATE access_keys SET {column} = ?, changed_at_ms = ? WHERE access_key = ?",
                (value, tx.time_ms, command.access_key),
            )
    _refuse_lockout(tx, was_admin=was_admin)
    return _keys_changed(tx)


def rotate_access_key(tx: Transaction, command: RotateAccessKey) -> Done:
    """Give a key a new secret beside its last one. Refuses NoSuchAccessKey, InvalidArgument."""
    _require(tx, command.access_key)
    _check_sealed(command.secret_sealed)
    _check_overlap(command.overlap_ms)
    tx.db.execute(
        "UPDATE access_keys SET previous_sealed = iif(?1 > 0, secret_sealed, x''),"
        " previous_until_ms = iif(?1 > 0, ?2 + ?1, 0), secret_sealed = ?3, changed_at_ms = ?2"
        " WHERE access_key = ?4",
        (command.overlap_ms, tx.time_ms, command.secret_sealed, command.access_key),
    )
    return _keys_changed(tx)


def revoke_access_key(tx: Transaction, command: RevokeAccessKey) -> Done:
    """Remove a key. Refuses NoSuchAccessKey, LastAdminKey."""
    _require(tx, command.access_key)
    was_admin = _is_lasting_admin(tx, command.access_key)
    tx.db.execute("DELETE FROM access_keys WHERE access_key = ?", (command.access_key,))
    tx.meta.add("total_access_keys", -1)
    _refuse_lockout(tx, was_admin=was_admin)
    return _keys_changed(tx)


def is_key_unchanged(tx: Transaction, asked: IfKeyUnchanged) -> bool:
    """Whether the key is what `asked` says, and works, as of the command that is being applied.

    Catalog time never stands still, and nobody reads a catalog in the middle of a batch: so a
    key that was read with this `changed_at_ms` and still has it is the same in every column.
    """
    found = tx.db.execute(
        "SELECT changed_at_ms, expires_at_ms, previous_until_ms FROM access_keys"
        " WHERE access_key = ? AND disabled = 0",
        (asked.access_key,),
    ).fetchone()
    if found is None:
        return False
    changed_at_ms, expires_at_ms, previous_until_ms = found
    if changed_at_ms != asked.changed_at_ms or 0 < expires_at_ms <= tx.time_ms:
        return False
    return not asked.is_former_secret or previous_until_ms > tx.time_ms


def set_system_token(tx: Transaction, command: SetSystemToken) -> Done:
    """Replace the system token. Refuses InvalidArgument."""
    if len(command.digest) != DIGEST_BYTES:
        raise InvalidArgument(f"The digest of a system token has {DIGEST_BYTES} bytes.")
    tx.meta.set("system_token_digest", command.digest)
    return Done()


def rotate_signing_key(tx: Transaction, command: RotateSigningKey) -> Done:
    """Make a new active signing key. Refuses InvalidArgument, Conflict."""
    _check_token_id(command.kid)
    _check_sealed(command.secret_sealed)
    _check_overlap(command.overlap_ms)
    if command.only_if_none and tx.db.execute(
        "SELECT EXISTS (SELECT 1 FROM signing_keys WHERE retires_at_ms = 0)"
    ).fetchone() == (1,):
        return Done()
    retires_at_ms = tx.time_ms + command.overlap_ms
    # None outlives the overlap: with 0 every token of before ends here.
    tx.db.execute(
        "UPDATE signing_keys SET retires_at_ms = iif(retires_at_ms = 0, ?1,"
        " min(retires_at_ms, ?1))",
        (retires_at_ms,),
    )
    tx.db.execute("DELETE FROM signing_keys WHERE retires_at_ms <= ?", (tx.time_ms,))
    living = tx.db.execute(
        "SELECT COUNT(*), COALESCE(SUM(kid = ?), 0) FROM signing_keys", (command.kid,)
    ).fetchone()
    if living[0] >= SIGNING_KEYS_MAX or living[1]:
        raise Conflict(
            f"There are {living[0]} signing keys whose tokens are valid; rotate without overlap."
        )
    tx.db.execute(
        "INSERT INTO signing_keys (kid, secret_sealed, created_at_ms, retires_at_ms)"
        " VALUES (?, ?, ?, 0)",
        (command.kid, command.secret_sealed, tx.time_ms),
    )
    return Done()


def revoke_tokens(tx: Transaction, command: RevokeTokens) -> Done:
    """Take tokens back by `jti`. Refuses CommandTooLarge, InvalidArgument, Conflict."""
    if len(command.jtis) > REVOKED_AT_ONCE:
        raise CommandTooLarge(f"At most {REVOKED_AT_ONCE} tokens are revoked at once.")
    until_ms = tx.time_ms + TOKEN_LIFE_MS_MAX + _KEPT_AFTER_MS
    added = 0
    for jti in command.jtis:
        _check_token_id(jti)
        added += tx.db.execute(
            "INSERT OR IGNORE INTO revoked_tokens (jti, kept_until_ms) VALUES (?, ?)",
            (jti, until_ms),
        ).rowcount
    tx.meta.add("total_revoked_tokens", added)
    if added and tx.meta.number("total_revoked_tokens") > REVOKED_MAX:
        raise Conflict(f"{REVOKED_MAX} tokens are revoked already: rotate the signing key.")
    return Done()


def forget_expired_tokens(tx: Transaction, rows_max: int) -> int:
    """Drop revocations of tokens that have expired by now, and retired signing keys; answers
    how many. Part of collection."""
    tokens = tx.db.execute(
        "DELETE FROM revoked_tokens WHERE jti IN (SELECT jti FROM revoked_tokens"
        " WHERE kept_until_ms < ? ORDER BY kept_until_ms, jti LIMIT ?)",
        (tx.time_ms, rows_max),
    ).rowcount
    tx.meta.add("total_revoked_tokens", -tokens)
    keys = tx.db.execute(
        "DELETE FROM signing_keys WHERE retires_at_ms > 0 AND retires_at_ms <= ?", (tx.time_ms,)
    ).rowcount  # few: SIGNING_KEYS_MAX
    return tokens + keys


def _require(tx: Transaction, access_key: str) -> None:
    found = tx.db.execute("SELECT 1 FROM access_keys WHERE access_key = ?", (access_key,))
    if found.fetchone() is None:
        raise NoSuchAccessKey(f"There is no access key {access_key[:_ID_CHARS_MAX]!r}.")


def _is_lasting_admin(tx: Transaction, access_key: str) -> bool:
    """Whether this key may do everything, everywhere, for ever."""
    found = tx.db.execute(
        f"SELECT 1 FROM access_keys WHERE access_key = ? AND {_LASTING_ADMIN}", (access_key,)
    )
    return found.fetchone() is not None


def _refuse_lockout(tx: Transaction, *, was_admin: bool) -> None:
    """Refuse a change that took the last such key."""
    if (
        was_admin
        and not tx.db.execute(
            f"SELECT 1 FROM access_keys WHERE {_LASTING_ADMIN} LIMIT 1"
        ).fetchone()
    ):
        raise LastAdminKey()


def _keys_changed(tx: Transaction) -> Done:
    tx.meta.add("keys_epoch", 1)
    return Done()


def _check_limits(
    scopes: Collection[str], buckets: Collection[str], prefixes: Collection[str], note: str
) -> None:
    if not set(scopes) <= set(SCOPES) or len(set(scopes)) != len(scopes):
        raise InvalidArgument(f"An access key has scopes of {', '.join(SCOPES)}.")
    if max(len(buckets), len(prefixes)) > LIMITS_MAX:
        raise InvalidArgument(f"A key is limited to at most {LIMITS_MAX} buckets and prefixes.")
    for bucket in buckets:
        BucketName.parse(bucket)
    for prefix in prefixes:
        if not 0 < len(prefix.encode(errors="replace")) <= OBJECT_KEY_BYTES_MAX:
            raise InvalidArgument(f"A prefix has 1 to {OBJECT_KEY_BYTES_MAX} bytes.")
    if len(note) > _NOTE_CHARS_MAX:
        raise InvalidArgument(f"A note has at most {_NOTE_CHARS_MAX} characters.")


def _check_sealed(sealed: bytes) -> None:
    if not 0 < len(sealed) <= _SEALED_BYTES_MAX:
        raise InvalidArgument(f"A sealed secret has at most {_SEALED_BYTES_MAX} bytes.")


def _check_overlap(overlap_ms: int) -> None:
    if not 0 <= overlap_ms <= OVERLAP_MS_MAX:
        days = OVERLAP_MS_MAX // 86_400_000
        raise InvalidArgument(f"Old and new are valid together for at most {days} days.")


def _check_token_id(text: str) -> None:
    if not _TOKEN_ID.fullmatch(text):
        raise InvalidArgument("The id of a token or of its key has 1 to 64 of A-Z a-z 0-9 _ -.")


def _json(words: tuple[str, ...]) -> str:
    return msgspec.json.encode(words).decode()
