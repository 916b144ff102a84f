"""What became of the shards that reads found missing or corrupt: counted, and said once.

A frontend can only do a favour here (`write_back`); a shard it could not put back stays lost
until its disk's scrub or repair sees to it, so that must not pass in silence.
"""

import logging
from collections import Counter

from osscore.model import ShardIdentity, Slot, Stripe

WRITTEN = "written"
NOT_WANTED = "not_wanted"
"""The stripe no longer has that slot: others have seen to it."""
BUSY = "busy"
"""No memory, or too much background work, at that moment."""
NOT_GATHERED = "not_gathered"
"""The read got by with fewer shards than rebuilding takes."""
NO_DISK = "no_disk"
WRONG_BYTES = "wrong_bytes"
"""What was rebuilt does not have the shard's checksum."""
_HEALED = (WRITTEN, NOT_WANTED)
_REMEMBERED_MAX = 4096

log = logging.getLogger(__name__)


class DamageNotes:
    """`counts`: shards found damaged, by what became of them: the names above, or the code
    of the error that ended the attempt."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._logged: dict[ShardIdentity, str] = {}

    def is_hopeless(self, stripe: Stripe, slot: Slot) -> bool:
        """Whether it could not be put back when that was last tried, as far as remembered."""
        identity = ShardIdentity(stripe.stripe, slot.index, slot.gen)
        return self._logged.get(identity, WRITTEN) not in (*_HEALED, BUSY, NOT_GATHERED)

    def note(self, stripe: Stripe, slot: Slot, outcome: str) -> None:
        """Count one shard; log it unless the same was logged of it lately."""
        self.counts[outcome] += 1
        identity = ShardIdentity(stripe.stripe, slot.index, slot.gen)
        if self._logged.get(identity) == outcome:
            return  # a shard that stays damaged is found by every read of it
        if len(self._logged) >= _REMEMBERED_MAX:
            self._logged.clear()
        self._logged[identity] = outcome
        log.log(
            logging.INFO if outcome in _HEALED else logging.WARNING,
            "damaged_shard",
            extra={
                "stripe": stripe.stripe.hex(),
                "index": slot.index,
                "gen": slot.gen,
                "disk": slot.disk,
                "outcome": outcome,
            },
        )
