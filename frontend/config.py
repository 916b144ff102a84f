"""What a frontend can be told. File < environment < flags (`ossd.config`)."""

import msgspec

from osscore.errors import InvalidArgument
from raftmeta.commands import UPLOAD_LIFE_S_MAX

MIB = 1024 * 1024


class FrontendConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of `python -P -m frontend`; every field is also OSS_<FIELD> in the environment."""

    # This process's name, for people.
    id: str = "frontend"
    # Base URLs of the metanodes.
    metanodes: tuple[str, ...] = ()
    # Authenticates requests to other roles; the previous one still opens the catalog key
    # while rotating.
    cluster_secret: str = ""
    cluster_secret_previous: str = ""
    # Where to listen; port 0: any free one.
    http: str = "127.0.0.1:9001"
    # Base URL under which others reach this process; empty: made of the listening address.
    url: str = ""
    # Seconds between heartbeats to every metanode, by which blob daemons find frontends.
    heartbeat_s: float = 1.0
    # Where browsers reach the API, for links, if not as the request for one came: behind a
    # proxy that ends TLS, say.
    public_url: str = ""
    # Sites whose pages may use tokens, upload handles and links in a browser; `*`: any, none: no.
    cors_origins: tuple[str, ...] = ("*",)
    # How long an unnamed stripe may wait and a dead one stays readable; as on the metanodes.
    gc_grace_s: float = 3600.0
    # A long body of which nothing more was staged for so long is given up.
    upload_ttl_s: float = 900.0
    # No upload of any kind outlives its last sign of life for longer than this.
    upload_expiry_s: float = 86400.0
    # A body that waits under /temp for its confirmation is removed after so long.
    temp_expiry_s: float = 3600.0
    # Bound on bodies held in memory, and how long a request waits for its part.
    bodies_bytes: int = 256 * MIB
    bodies_wait_s: float = 60.0
    # Longest body taken.
    object_bytes_max: int = 5 << 40
    # Threads for hashing, coding and compressing.
    threads: int = 2
    # How long requests under way may take after SIGTERM.
    drain_s: float = 20.0
    # Form of the log lines: json or text.
    log_format: str = "json"

    def check(self) -> None:
        """Raises InvalidArgument naming the first field whose value cannot be used."""
        for name in ("id", "metanodes", "cluster_secret"):
            if not getattr(self, name):
                raise InvalidArgument(f"`{name}` must not be empty.")
        positive = (
            "heartbeat_s",
            "gc_grace_s",
            "upload_ttl_s",
            "upload_expiry_s",
            "temp_expiry_s",
            "threads",
            "object_bytes_max",
        )
        for name in positive:
            if getattr(self, name) <= 0:
                raise InvalidArgument(f"`{name}` must be greater than 0.")
        for name in ("upload_ttl_s", "upload_expiry_s", "temp_expiry_s"):
            if getattr(self, name) > UPLOAD_LIFE_S_MAX:
                raise InvalidArgument(f"`{name}` is at most {UPLOAD_LIFE_S_MAX} s, 399 days.")
        if self.bodies_bytes < 32 * MIB:
            raise InvalidArgument("`bodies_bytes` must be at least 32 MiB.")
