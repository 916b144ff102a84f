"""In which order frontends are asked to take a temp in."""

from blobd.described import Described
from osscore.errors import NoFrontend
from ossd.clock import RandomBytes

_LIVING = ("up",)
_MAY_LIVE = ("unknown", "suspect")


class Frontends:
    """Those that the metadata has heard of. Use from one event loop."""

    def __init__(self, described: Described, *, random: RandomBytes) -> None:
        self._described = described
        self._random = random

    async def to_try(self) -> list[str]:
        """Base URLs of frontends in the order in which to ask them: those that live, shuffled,
        then those that may.

        Raises NoFrontend, or Unavailable if the metadata cannot be asked.
        """
        frontends = (await self._described.current()).frontends
        order = [
            *self._shuffled([each.url for each in frontends if each.health in _LIVING]),
            *self._shuffled([each.url for each in frontends if each.health in _MAY_LIVE]),
        ]
        if not order:
            raise NoFrontend()
        return order

    def _shuffled(self, urls: list[str]) -> list[str]:
        return sorted(urls, key=lambda _: self._random(8))
