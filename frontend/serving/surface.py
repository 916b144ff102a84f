"""What the handlers of one frontend work with, whatever dialect they speak."""

from dataclasses import dataclass

from frontend.config import FrontendConfig
from frontend.flows.store import Store
from frontend.runs import Runs
from frontend.tickets import Tickets, UploadHandles
from ossd.rpc import PeerRpc
from raftmeta.access import Access


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    """What the handlers of this process share."""

    store: Store
    access: Access
    tickets: Tickets
    handles: UploadHandles
    runs: Runs
    rpc: PeerRpc
    config: FrontendConfig
    version: str
    pid: int
