"""Bytes added to the end of an upload, by any frontend, in any number of requests."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from frontend.flows.buckets import write_profile
from frontend.flows.cut import Cutter
from frontend.flows.hashing import BodyHash
from frontend.flows.long_body import LongBody, PlainStripe
from frontend.flows.staging import Staging
from frontend.flows.store import Store
from osscore.errors import (
    EntityTooLarge,
    IncompleteBody,
)
from osscore.model import STRIPE_BYTES_MAX
from ossd.body_stream import BodyStream
from ossd.disk import Bytes
from ossd.lending import Loan
from raftmeta.queries import UploadFound

_LANES = 2


@dataclass(frozen=True, slots=True)
class Appended:
    """How an upload stands after a request. `sha256`: of all of it, where one request
    brought all of it, else None."""

    staged_bytes: int
    sha256: bytes | None


async def append_body(
    store: Store, found: UploadFound, body: AsyncIterator[Bytes], *, size_bytes: int | None
) -> Appended:
    """Add `body`, of `size_bytes` if that was declared, to what the upload holds.

    If the body breaks off, what came is kept, and IncompleteBody raised. Raises
    EntityTooLarge (it would outgrow its plan: what fitted may be kept), UploadOutOfOrder
    (another request was faster), NoSuchUpload, the Unavailable family.
    """
    limit_bytes = _room(store, found)
    if (size_bytes or 0) > limit_bytes:
        raise EntityTooLarge(f"The upload has room for {limit_bytes} bytes more.")
    await store.check_admits_writes()
    with store.under_way.adding(found.upload), store.loans.lend() as loan:
        return await _Append(store, found, body, limit_bytes, loan, size_bytes).run()


def _room(store: Store, found: UploadFound) -> int:
    planned = found.plan.size_bytes
    most = store.settings.object_bytes_max if planned is None else planned
    return most - found.staged_bytes


class _Append:
    """One request under way."""

    def __init__(
        self,
        store: Store,
        found: UploadFound,
        body: AsyncIterator[Bytes],
        limit_bytes: int,
        loan: Loan,
        size_bytes: int | None,
    ) -> None:
        self._store = store
        self._found = found
        self._loan = loan
        self._size_bytes = size_bytes
        self._body = _Unbroken(body)
        # Stripes end where those of an object that came in one piece would.
        first_bytes = STRIPE_BYTES_MAX - found.staged_bytes % STRIPE_BYTES_MAX
        self._cutter = Cutter(
            self._body,
            stripe_bytes=STRIPE_BYTES_MAX,
            object_bytes_max=limit_bytes,
            first_bytes=first_bytes,
            stream=body if isinstance(body, BodyStream) else None,
            loan=loan,
            declared_bytes=size_bytes,
        )
        self._hash = None if found.staged_bytes else BodyHash(store)

    async def run(self) -> Appended:
        """The story."""
        try:
            return await self._run()
        finally:
            await self._cutter.close()

    async def _run(self) -> Appended:
        size_bytes = self._size_bytes
        store, found = self._store, self._found
        profile = await write_profile(store, found.bucket, found.plan.profile, creates_bucket=False)
        staging = Staging(store, upload=found.upload, position=found.staged_count)
        staging.resume()
        body = LongBody(store, profile, lanes=_LANES, staging=staging)
        await body.stage_more(self._stripes())
        if self._body.breakage is not None:
            raise self._body.breakage
        if size_bytes is not None and size_bytes != self._cutter.size_bytes:
            raise IncompleteBody(f"{self._cutter.size_bytes} of {size_bytes} bytes came.")
        sha256 = await self._hash.digest() if self._hash is not None else None
        return Appended(found.staged_bytes + self._cutter.size_bytes, sha256)

    async def _stripes(self) -> AsyncIterator[PlainStripe]:
        while plain := await self._cutter.next():
            hashed = self._hash.add(plain) if self._hash is not None else None
            stripe = PlainStripe(plain, hashed=hashed, lent=self._loan.close(len(plain)))
            del plain
            yield stripe
            del stripe
            if self._hash is not None:
                await self._hash.keep_up()


class _Unbroken:
    """A body that ends where it breaks off, so that what came before can be kept."""

    def __init__(self, body: AsyncIterator[Bytes]) -> None:
        self._body = body.__aiter__()
        self.breakage: IncompleteBody | None = None

    def __aiter__(self) -> "_Unbroken":
        return self

    async def __anext__(self) -> Bytes:
        try:
            return await self._body.__anext__()
        except IncompleteBody as error:
            self.breakage = error
            raise StopAsyncIteration from error
