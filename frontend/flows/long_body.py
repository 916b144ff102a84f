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
from raftmeta.commands import StripeQuestion

LANES_MAX = 3
_ASK_FIRST = 2
_ASK_EVERY = 4


@dataclass(frozen=True, slots=True)
class PlainStripe:
    """One stripe of a body; `writing` where its shards are on their way already."""

    plain: Bytes
    writing: asyncio.Task[StripeDraft] | None = None


class LongBody:
    """The staging of one body. `stage` it, then name the upload, or `abort`."""

    def __init__(self, store: Store, profile: Profile, *, lanes: int) -> None:
        self._store = store
        self._profile = profile
        self._lanes = lanes
        self._staging = Staging(store)
        self._hit_lately = True

    @property
    def upload(self) -> bytes:
        """The id under which everything was staged."""
        return self._staging.upload

    async def stage(self, bucket: str, key: str, stripes: AsyncIterator[PlainStripe]) -> None:
        """Store and name every stripe. Raises what any of them raised; then abort."""
        await self._staging.begin(bucket, key)
        under_way: deque[asyncio.Task[None]] = deque()
        position = 0
        try:
            async for stripe in stripes:
                under_way.append(asyncio.create_task(self._stage_one(position, stripe)))
                del stripe  # the task alone decides how long its bytes stay
                position += 1
                while len(under_way) >= self._lanes:
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

    def abort(self) -> None:
        """Give back what was staged, beside everything else."""
        self._store.in_background(self._staging.abort())

    async def _stage_one(self, position: int, stripe: PlainStripe) -> None:
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
