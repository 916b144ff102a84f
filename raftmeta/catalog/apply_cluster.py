"""Forming the cluster, confirming time, and access keys."""

import msgspec

from osscore.errors import AlreadyFormed, InvalidArgument, NoSuchAccessKey
from raftmeta.catalog.transaction import Transaction
from raftmeta.commands import ConfirmTime, Done, FormCluster, PutAccessKey, RevokeAccessKey

SCOPES = ("upload", "download", "info", "delete", "admin")
_GRACE_MS_MAX = 30 * 86_400_000


def form_cluster(tx: Transaction, command: FormCluster) -> Done:
    """Store what the cluster is made of, once. Refuses AlreadyFormed under another id."""
    formed_as = tx.meta.blob("cluster_id")
    if formed_as == command.cluster_id and formed_as:
        return Done()
    if formed_as:
        raise AlreadyFormed()
    if not command.cluster_id or not 0 < command.gc_grace_ms <= _GRACE_MS_MAX:
        raise InvalidArgument("A cluster needs an id and a collection grace of at most 30 days.")
    tx.meta.set("cluster_id", command.cluster_id)
    tx.meta.set("catalog_key_wrapped", command.catalog_key_wrapped)
    tx.meta.set("system_token_digest", command.system_token_digest)
    tx.meta.set("gc_grace_ms", command.gc_grace_ms)
    root = PutAccessKey(
        access_key=command.root_access_key,
        secret_sealed=command.root_secret_sealed,
        scopes=SCOPES,
        note="root",
    )
    return put_access_key(tx, root)


def confirm_time(tx: Transaction, _: ConfirmTime) -> Done:
    """Let expiry and collection go on after a jump of catalog time."""
    tx.meta.set("time_jumped", 0)
    return Done()


def put_access_key(tx: Transaction, command: PutAccessKey) -> Done:
    """Create or replace a key; every frontend's cache turns stale by `keys_epoch`."""
    if not command.access_key or not set(command.scopes) <= set(SCOPES):
        raise InvalidArgument(f"An access key has an id and scopes of {', '.join(SCOPES)}.")
    tx.db.execute(
        "INSERT OR REPLACE INTO access_keys"
        " (access_key, secret_sealed, scopes, buckets, expires_at_ms, note, changed_at_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            command.access_key,
            command.secret_sealed,
            _json(command.scopes),
            _json(command.buckets),
            command.expires_at_ms,
            command.note,
            tx.time_ms,
        ),
    )
    tx.meta.add("keys_epoch", 1)
    return Done()


def revoke_access_key(tx: Transaction, command: RevokeAccessKey) -> Done:
    """Remove a key. Refuses NoSuchAccessKey."""
    removed = tx.db.execute(
        "DELETE FROM access_keys WHERE access_key = ?", (command.access_key,)
    ).rowcount
    if not removed:
        raise NoSuchAccessKey()
    tx.meta.add("keys_epoch", 1)
    return Done()


def _json(words: tuple[str, ...]) -> str:
    return msgspec.json.encode(words).decode()
