"""Being found: every second each frontend tells every metanode where it is reached."""

from ossd.beat import beat_for_ever
from ossd.clock import Clock
from raftmeta.client import MetaClient
from raftmeta.wire import FrontendHeartbeat


async def be_heard(
    meta: MetaClient, *, frontend: str, url: str, clock: Clock, heartbeat_s: float
) -> None:
    """Send heartbeats for ever; cancel it. Nobody is registered: silence is forgotten."""
    heartbeat = FrontendHeartbeat(frontend=frontend, url=url)
    await beat_for_ever(lambda: meta.heartbeat(heartbeat), clock=clock, every_s=heartbeat_s)
