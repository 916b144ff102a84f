"""What blob daemons ask of a frontend: signed, and on the same port as everything else."""

from typing import Any, ClassVar

from blobd.wire import ADOPT, Adopt
from frontend.flows.adopt import adopt
from frontend.flows.store import Store
from ossd.http import InternalHandler


def internal_routes(store: Store) -> list[Any]:
    """Routes for `serve`, whose settings need a verifier."""
    return [(ADOPT, AdoptHandler, {"store": store})]


class AdoptHandler(InternalHandler):
    """POST /v1/adopt: take in what a user sent to a blob daemon."""

    api: ClassVar[str] = "internal"

    def initialize(self, store: Store) -> None:
        """Tornado's call with the route's arguments."""
        self._store = store

    async def post(self) -> None:
        """Adopted; goes on when the daemon no longer waits."""
        self.reply(await adopt(self._store, self.decode(Adopt)))
