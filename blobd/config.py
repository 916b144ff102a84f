"""What a blob daemon can be told, with defaults. File < environment < flags (`ossd.config`)."""

import msgspec

from osscore.errors import InvalidArgument
from raftmeta.commands import UPLOAD_LIFE_S_MAX

MIB = 1024 * 1024


class BlobConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of `python -P -m blobd`; every field is also OSS_<FIELD> in the environment."""

    # This daemon's name in the cluster; it belongs to the data and never changes.
    id: str
    # Data folders, one disk each.
    data: tuple[str, ...]
    # Base URLs of the metanodes.
    metanodes: tuple[str, ...]
    # Authenticates every internal request; the previous one is accepted while rotating.
    cluster_secret: str
    cluster_secret_previous: str = ""
    # Where to listen; port 0: any free one.
    http: str = "127.0.0.1:9201"
    # Base URL under which others reach this daemon; empty: made of the listening address.
    url: str = ""
    # Failure domain above the node, such as a rack or a room.
    zone: str = ""
    # Seconds between heartbeats to every metanode.
    heartbeat_s: float = 1.0
    # How long a stored shard may wait to be named before the sweep deletes it.
    gc_grace_s: float = 3600.0
    # Size at which a volume file is sealed and the next one begun.
    volume_bytes: int = 1024 * MIB
    # Bound on what the scrub reads of each disk, and its rest between two passes.
    scrub_bytes_per_s: int = 20_000_000
    scrub_rest_s: float = 3600.0
    # Bound on what repair, drain and rebalance write to each disk.
    repair_bytes_per_s: int = 32_000_000
    # Rest of each disk between two comparisons of its shards with the catalog.
    census_interval_s: float = 300.0
    # Bound on what compaction moves on each disk.
    compact_bytes_per_s: int = 50_000_000
    # Bound on shard bodies held in memory, and how long a request waits for its part.
    bodies_bytes: int = 64 * MIB
    bodies_wait_s: float = 5.0
    # How long an upload sent straight to this daemon may wait to be confirmed.
    temp_expiry_s: float = 3600.0
    # How long requests under way may take after SIGTERM.
    drain_s: float = 20.0
    # Form of the log lines: json or text.
    log_format: str = "json"

    def check(self) -> None:
        """Raises InvalidArgument naming the first field whose value cannot be used."""
        for name in ("id", "data", "metanodes", "cluster_secret"):
            if not getattr(self, name):
                raise InvalidArgument(f"`{name}` must not be empty.")
        for name in (
            "heartbeat_s",
            "volume_bytes",
            "scrub_bytes_per_s",
            "census_interval_s",
            "compact_bytes_per_s",
            "repair_bytes_per_s",
            "temp_expiry_s",
        ):
            if getattr(self, name) <= 0:
                raise InvalidArgument(f"`{name}` must be greater than 0.")
        for name in ("temp_expiry_s",):
            if getattr(self, name) > UPLOAD_LIFE_S_MAX:
                raise InvalidArgument(f"`{name}` is at most {UPLOAD_LIFE_S_MAX} s, 399 days.")
        if self.bodies_bytes < 16 * MIB:
            raise InvalidArgument("`bodies_bytes` must be at least 16 MiB.")
        if self.gc_grace_s < 0:
            raise InvalidArgument("`gc_grace_s` must not be negative.")
        if len(set(self.data)) != len(self.data):
            raise InvalidArgument("`data` names a folder twice.")
