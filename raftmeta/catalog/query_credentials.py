"""Access keys, tokens' keys, and the audit."""

import msgspec

from osscore.errors import NoSuchAccessKey, RevokedToken
from raftmeta.catalog.reading import Reading
from raftmeta.credentials import (
    AccessKeyFound,
    AccessKeyInfo,
    AccessKeysListed,
    AuditListed,
    AuditRow,
    CheckToken,
    FindAccessKey,
    FindSigningKeys,
    FindSystemToken,
    KeysUnchanged,
    ListAccessKeys,
    ListAudit,
    SigningKey,
    SigningKeysFound,
    SystemTokenFound,
    TokenChecked,
)

PAGE_MAX = 1000
VISITED_MAX = 10_000
"""Most rows of the audit that one page looks at."""
_SIGNING_KEY = "kid, secret_sealed, created_at_ms, retires_at_ms"
_decode_words = msgspec.json.Decoder(tuple[str, ...]).decode


def find_access_key(reading: Reading, query: FindAccessKey) -> AccessKeyFound | KeysUnchanged:
    """A key that works. Refuses NoSuchAccessKey: unknown, disabled, or expired."""
    if query.known_epoch == reading.number("keys_epoch"):
        return KeysUnchanged()
    found = reading.db.execute(
        "SELECT secret_sealed, scopes, buckets, prefixes, expires_at_ms, previous_sealed,"
        " previous_until_ms, created_at_ms, changed_at_ms FROM access_keys"
        " WHERE access_key = ? AND disabled = 0",
        (query.access_key,),
    ).fetchone()
    if found is None or 0 < found[4] <= reading.number("catalog_time_ms"):
        raise NoSuchAccessKey()
    sealed, scopes, buckets, prefixes, expires_at_ms, previous, until_ms, *times = found
    is_over = until_ms <= reading.number("catalog_time_ms")
    return AccessKeyFound(
        access_key=query.access_key,
        secret_sealed=sealed,
        scopes=_decode_words(scopes),
        buckets=_decode_words(buckets),
        prefixes=_decode_words(prefixes),
        expires_at_ms=expires_at_ms,
        previous_sealed=b"" if is_over else previous,
        previous_until_ms=0 if is_over else until_ms,
        created_at_ms=times[0],
        changed_at_ms=times[1],
    )


def list_access_keys(reading: Reading, query: ListAccessKeys) -> AccessKeysListed:
    """A page of keys by id, without their secrets."""
    limit = max(1, min(query.limit, PAGE_MAX))
    rows = reading.db.execute(
        "SELECT access_key, scopes, buckets, prefixes, expires_at_ms, note, disabled,"
        " created_at_ms, changed_at_ms, previous_until_ms FROM access_keys"
        " WHERE access_key > ?1 AND (?2 = '' OR access_key = ?2) ORDER BY access_key LIMIT ?3",
        (query.after, query.access_key, limit + 1),
    ).fetchall()
    now_ms = reading.number("catalog_time_ms")
    keys = tuple(_info(row, now_ms) for row in rows[:limit])
    return AccessKeysListed(keys=keys, next=keys[-1].access_key if len(rows) > limit else None)


def find_system_token(reading: Reading, _: FindSystemToken) -> SystemTokenFound:
    """The digest of the system token."""
    return SystemTokenFound(digest=reading.blob("system_token_digest"))


def find_signing_keys(reading: Reading, _: FindSigningKeys) -> SigningKeysFound:
    """The keys in use, newest first."""
    rows = reading.db.execute(
        f"SELECT {_SIGNING_KEY} FROM signing_keys WHERE retires_at_ms = 0 OR retires_at_ms > ?"
        " ORDER BY retires_at_ms != 0, created_at_ms DESC, kid",
        (reading.number("catalog_time_ms"),),
    )
    return SigningKeysFound(keys=tuple(_signing_key(row) for row in rows))


def check_token(reading: Reading, query: CheckToken) -> TokenChecked:
    """The key of a token, if both are in use. Refuses RevokedToken."""
    row = reading.db.execute(
        f"SELECT {_SIGNING_KEY} FROM signing_keys WHERE kid = ?1"
        " AND (retires_at_ms = 0 OR retires_at_ms > ?2)",
        (query.kid, reading.number("catalog_time_ms")),
    ).fetchone()
    if row is None:
        raise RevokedToken("The key that signed this token is not in use.")
    revoked = reading.db.execute("SELECT 1 FROM revoked_tokens WHERE jti = ?", (query.jti,))
    if revoked.fetchone() is not None:
        raise RevokedToken("This token was revoked.")
    return TokenChecked(key=_signing_key(row))


def list_audit(reading: Reading, query: ListAudit) -> AuditListed:
    """A page of the audit, oldest or newest first."""
    limit = max(1, min(query.limit, PAGE_MAX))
    order, compare = ("DESC", "<") if query.newest_first else ("ASC", ">")
    after = query.after or ((1 << 62) if query.newest_first else 0)
    visited = reading.db.execute(
        "SELECT number, at_ms, actor, action, target, detail, request_id, source, outcome"
        f" FROM audit WHERE number {compare} ? ORDER BY number {order} LIMIT ?",
        (after, VISITED_MAX),
    )
    rows: list[AuditRow] = []
    last = count = 0
    for values in visited:
        if len(rows) == limit:
            return AuditListed(rows=tuple(rows), next=last)
        row = _audit_row(values)
        last, count = row.number, count + 1
        if _matches(row, query):
            rows.append(row)
    return AuditListed(rows=tuple(rows), next=last if count == VISITED_MAX else None)


def _matches(row: AuditRow, query: ListAudit) -> bool:
    if query.actor and row.actor != query.actor:
        return False
    return row.action == query.action or (row.action + ".").startswith(
        query.action + "." if query.action else ""
    )


def _audit_row(values: tuple[int, int, str, str, str, str, str, str, str]) -> AuditRow:
    number, at_ms, actor, action, target, detail, request_id, source, outcome = values
    return AuditRow(
        number=number,
        at_ms=at_ms,
        actor=actor,
        action=action,
        target=target,
        detail=detail,
        request_id=request_id,
        source=source,
        outcome=outcome,
    )


def _info(
    row: tuple[str, str, str, str, int, str, int, int, int, int], now_ms: int
) -> AccessKeyInfo:
    access_key, scopes, buckets, prefixes, expires_at_ms, note, disabled, *times = row
    created_at_ms, changed_at_ms, previous_until_ms = times
    return AccessKeyInfo(
        access_key=access_key,
        scopes=_decode_words(scopes),
        buckets=_decode_words(buckets),
        prefixes=_decode_words(prefixes),
        expires_at_ms=expires_at_ms,
        note=note,
        disabled=disabled == 1,
        created_at_ms=created_at_ms,
        changed_at_ms=changed_at_ms,
        previous_until_ms=previous_until_ms if previous_until_ms > now_ms else 0,
    )


def _signing_key(row: tuple[str, bytes, int, int]) -> SigningKey:
    kid, secret_sealed, created_at_ms, retires_at_ms = row
    return SigningKey(
        kid=kid,
        secret_sealed=secret_sealed,
        created_at_ms=created_at_ms,
        retires_at_ms=retires_at_ms,
    )
