"""Forming the cluster, its metanodes, and confirming time."""

from osscore.errors import AlreadyFormed, InvalidArgument
from raftmeta.catalog.apply_credentials import SCOPES, put_access_key
from raftmeta.catalog.transaction import Transaction
from raftmeta.commands import ConfirmTime, Done, FormCluster
from raftmeta.credentials import PutAccessKey
from raftmeta.members import SetMembers

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


def set_members(tx: Transaction, command: SetMembers) -> Done:
    """Record who counts: the Raft layer has obeyed since the entry was logged."""
    tx.db.execute("DELETE FROM members")
    tx.db.executemany(
        "INSERT INTO members (id, raft, url) VALUES (?, ?, ?)",
        [(member.id, member.raft, member.url) for member in command.members],
    )
    tx.meta.set("members_index", tx.index)
    return Done()


def confirm_time(tx: Transaction, _: ConfirmTime) -> Done:
    """Let expiry and collection go on after a jump of catalog time."""
    tx.meta.set("time_jumped", 0)
    return Done()
