"""What a metanode can be told: flags over environment over file (`ossd.config`)."""

import msgspec

from osscore.errors import InvalidArgument
from ossd.config import HostPort
from raftmeta.settings import JournalSettings, RaftSettings
from raftmeta.wire import parse_members


class MetaConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One metanode. `check` it before use."""

    id: str = ""
    """This metanode's name, unique in the cluster and fixed for ever."""
    data: str = ""
    """Its data folder."""
    http: str = ":9101"
    """HOST:PORT to listen on for HTTP; an empty host means every address."""
    raft: str = ":9102"
    """HOST:PORT under which the other metanodes reach this one's Raft link."""
    raft_bind: str = ""
    """HOST:PORT to bind for Raft, where it differs from `raft`."""
    url: str = ""
    """Base URL others reach `http` under; empty: made of `http`."""
    peers: tuple[str, ...] = ()
    """HTTP bases of the metanodes, this one included or not; asked whether a formed cluster
    lists this one, when its folder is empty."""
    bootstrap: tuple[str, ...] = ()
    """ID=RAFT=URL of each first member: form the cluster once all of them are empty and
    reachable. Harmless at later starts."""
    cluster_secret: str = ""
    """Authenticates every internal request; the same on all nodes."""
    cluster_secret_previous: str = ""
    """The one before, accepted as well while it is being rotated."""
    root_access_key: str = ""
    """First access key, used when bootstrapping; empty: generated and printed once."""
    root_secret_key: str = ""
    """Its secret; likewise."""
    system_token: str = ""
    """System token; likewise."""
    gc_grace_s: float = 3600
    """How long unnamed or dead stripes stay; fixed when the cluster is formed."""
    heartbeat_s: float = 1
    """Beat of blob daemons: silent for 5 is suspect, for 15 is down."""
    repair_delay_s: float = 600
    """A disk silent for so long, and for 15 beats, is lost: its shards are rebuilt elsewhere."""
    low_space_bytes: int = 1024**3
    """With less free than this and than `low_space_percent`, only shrinking is admitted."""
    low_space_percent: float = 5
    """See low_space_bytes."""
    journal_bytes: int = 64 * 1024**2
    """The Raft log is cut once it is longer."""
    log_format: str = "json"
    """json, or text for people."""
    log_level: str = "INFO"
    """Least level to log."""

    def check(self) -> "MetaConfig":
        """Itself. Raises InvalidArgument naming the field."""
        for name in ("id", "data", "cluster_secret"):
            if not getattr(self, name):
                raise InvalidArgument(f"{name} must be set.")
        if not HostPort.parse(self.raft).host:
            raise InvalidArgument("raft needs a host: the other metanodes connect to it.")
        for name in ("gc_grace_s", "heartbeat_s", "repair_delay_s", "journal_bytes"):
            if getattr(self, name) <= 0:
                raise InvalidArgument(f"{name} must be positive.")
        if not 0 <= self.low_space_percent < 100:
            raise InvalidArgument("low_space_percent lies between 0 and 100.")
        if self.log_format not in ("json", "text"):
            raise InvalidArgument("log_format is json or text.")
        parse_members(self.bootstrap)
        return self

    def base_url(self, port: int) -> str:
        """The URL others use; `port` is the one bound."""
        if self.url:
            return self.url.rstrip("/")
        host = HostPort.parse(self.http).host or HostPort.parse(self.raft).host
        return f"http://{HostPort(host, port)}"


def raft_settings(config: MetaConfig) -> RaftSettings:
    """The Raft layer's settings: a quarter of the log is kept at a cut, in eight segments."""
    size_bytes = config.journal_bytes
    return RaftSettings(
        journal=JournalSettings(
            segment_bytes=max(size_bytes // 8, 1),
            cut_bytes=size_bytes,
            keep_bytes=size_bytes // 4,
        )
    )
