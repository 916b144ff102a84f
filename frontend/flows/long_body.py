"""Bodies of more than two stripes: staged as they stream in, a few stripes at a time."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from frontend.flows.staging import Staging, is_rewritable
from frontend.flows.store import Store
from frontend.flows.stripe_write import DOMAIN, WRITES_MAX, write_stripe
from osscore.digests import blake3_256
from osscore.errors import StoreError
from osscore.model import Profile, StripeDraft
from ossd.disk import Bytes
from ossd.lending import ClosedPart
from raftmeta.commands import StripeQuestion

LANES_MAX = 3
_ASK_FIRST = 2
_ASK_EVERY = 4
LANES_SHARE_MAX = 0.5
"""Further lanes come from the first half of the memory: the rest lets more requests begin."""


@dataclass(frozen=True, slots=True)
class PlainStripe:
    """One stripe of a body, of any length; `writing` where its shards are on their way
    already."""

    plain: Bytes
    writing: asyncio.Task[StripeDraft] | None = None
    hashed: asyncio.Task[None] | None = None
    """What else keeps its bytes."""
    lent: ClosedPart | None = None
    """Given back once nothing keeps them."""


class LongBody:
    """The staging of one body. `stage` it, then name the upload, or `abort`.

    With a `staging` that has begun, the body continues that upload. `lanes`: how many stripes
    may be under way at a time while there is room.
    """

    def __init__(
        self,
        store: Store,
        profile: Profile,
        *,
        lanes: int = LANES_MAX,
        staging: Staging | None = None,
    ) -> None:
        self._store = store
        self._profile = profile
        self._lanes = lanes
        self._staging = staging or Staging(store)
        self._hit_lately = True

    @property
    def upload(self) -> bytes:
        """The id under which everything was staged."""
        return self._staging.upload

    async def stage(self, bucket: str, key: str, stripes: AsyncIterator[PlainStripe]) -> None:
        """Store and name every stripe. Raises what any of them raised; then abort."""
        await self._staging.begin(bucket, key)
        await self.stage_more(stripes)

    async def stage_more(self, stripes: AsyncIterator[PlainStripe]) -> None:
        """As `stage`, for an upload that is open already."""
        under_way: deque[asyncio.Task[None]] = deque()
        position = self._staging.position
        try:
            async for stripe in stripes:
                under_way.append(asyncio.create_task(self._stage_one(position, stripe)))
                del stripe  # the task alone decides how long its bytes stay
                position += 1
                while len(under_way) >= self._lanes_now():
                    await under_way[0]
                    under_way.popleft()
            while under_way:
                await under_way[0]
                under_way.popleft()
        finally:
            for task in under_way:
                task.cancel()
            if under_way:
                await asyncio.wait(under_way)
            await self._staging.stop()

    def _lanes_now(self) -> int:
        return self._lanes if self._store.has_room(LANES_SHARE_MAX) else 1

    def abort(self) -> None:
        """Give back what was staged, beside everything else."""
        self._store.in_background(self._staging.abort())

    async def _stage_one(self, position: int, stripe: PlainStripe) -> None:
        await self._name(position, stripe)
        if stripe.hashed is not None:
            await asyncio.wait({stripe.hashed})
        if stripe.lent is not None:
            stripe.lent.give()

    async def _name(self, position: int, stripe: PlainStripe) -> None:
        plain = stripe.plain
        if stripe.writing is not None:
            digest = (await stripe.writing).digest
            piece: StripeDraft | int = await stripe.writing
        else:
            digest = await self._store.off_loop(len(plain), blake3_256, plain)
            row = await self._find_twin(position, plain, digest)
            piece = row or await write_stripe(self._store, plain, self._profile, digest)
        for attempt in range(1, WRITES_MAX + 1):
            try:
                await self._staging.append(position, piece)
            except StoreError as error:
                if attempt == WRITES_MAX or not is_rewritable(error):
                    raise
                piece = await write_stripe(self._store, plain, self._profile, digest)
            else:
                return

    async def _find_twin(self, position: int, plain: Bytes, digest: bytes) -> int:
        """Row of a stripe with these bytes, or 0; asked less often while answers are no.

        What is not asked is found at the append at the latest: it maps twins, only after
        the bytes have travelled.
        """
        if not (self._hit_lately or position < _ASK_FIRST or position % _ASK_EVERY == 0):
            return 0
        question = StripeQuestion(
            profile=self._profile, domain=DOMAIN, digest=digest, plain_bytes=len(plain)
        )
        try:
            row = await self._staging.ask(question)
        except StoreError as error:
            if not is_rewritable(error):
                raise
            row = 0  # another stripe of the same window was refused
        self._hit_lately = bool(row)
        return row
