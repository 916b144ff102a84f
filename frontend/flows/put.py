"""The story of a PUT: data before name. A crash leaves garbage, never a hole."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from frontend.flows.buckets import ensure_bucket, write_profile
from frontend.flows.cut import Cutter
from frontend.flows.hashing import BodyHash
from frontend.flows.long_body import LongBody, PlainStripe
from frontend.flows.objects import check_conditions
from frontend.flows.staging import is_rewritable
from frontend.flows.store import Proposer, Store
from frontend.flows.stripe_write import WRITES_MAX, write_stripe
from osscore.errors import (
    BadDigest,
    EntityTooLarge,
    IncompleteBody,
    NoSuchBucket,
    StoreError,
)
from osscore.model import STRIPE_BYTES_MAX, ObjectAttributes, Profile, StripeDraft
from ossd.disk import Bytes
from ossd.lending import Loan
from raftmeta.commands import (
    Body,
    Conditions,
    InlineBody,
    ObjectPut,
    PutObject,
    StripesBody,
    UploadBody,
)

_SHORT_STRIPES = 2
SHORT_BYTES_MAX = _SHORT_STRIPES * STRIPE_BYTES_MAX
"""Longer bodies are staged (SAFETY rule 4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PutRequest:
    """What a dialect asks for. `sha256`: what the body must hash to, if the caller said.

    `finishes`: the upload that ends with this version (see PutObject), whose bytes these are.
    `proposer`: takes the commands that others would notice; None: they need nobody's right.
    """

    bucket: str
    key: str
    size_bytes: int | None
    profile: Profile | None = None
    content: Mapping[str, str] = field(default_factory=dict)
    user: Mapping[str, str] = field(default_factory=dict)
    sha256: bytes | None = None
    conditions: Conditions = field(default_factory=Conditions)
    creates_bucket: bool = False
    finishes: bytes = b""
    proposer: Proposer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """The version that was made."""

    number: int
    version_id: str
    created_at_ms: int
    size_bytes: int
    sha256: bytes


async def put_object(store: Store, request: PutRequest, body: AsyncIterator[Bytes]) -> StoredObject:
    """Store `body` as the new current version.

    Raises NoSuchBucket, PreconditionFailed, BadDigest, IncompleteBody, EntityTooLarge, the
    Unavailable family, and whatever the body raises. Nothing is named then.
    """
    if (request.size_bytes or 0) > store.settings.object_bytes_max:
        raise EntityTooLarge(f"An object has at most {store.settings.object_bytes_max} bytes.")
    await store.check_admits_writes()
    with store.loans.lend() as loan:
        return await _Put(store, request, body, loan).run()


class _Put:
    """One request under way."""

    def __init__(
        self, store: Store, request: PutRequest, body: AsyncIterator[Bytes], loan: Loan
    ) -> None:
        self._store = store
        self._request = request
        self._proposer = request.proposer or store.meta
        self._loan = loan
        self._cutter = Cutter(
            body,
            stripe_bytes=STRIPE_BYTES_MAX,
            object_bytes_max=store.settings.object_bytes_max,
            loan=loan,
            declared_bytes=request.size_bytes,
        )
        self._hash = BodyHash(store)

    async def run(self) -> StoredObject:
        """The story."""
        try:
            return await self._run()
        finally:
            await self._cutter.close()

    async def _run(self) -> StoredObject:
        request, store = self._request, self._store
        is_long = (request.size_bytes or 0) > SHORT_BYTES_MAX
        if is_long:
            # Learnt before gigabytes have travelled; the commit decides all the same.
            await check_conditions(store, request.bucket, request.key, request.conditions)
        kept = [await self._cutter.next()]
        inline_bytes_max = (await store.cluster.current()).described.inline_bytes_max
        if len(kept[0]) <= inline_bytes_max:
            digest = hashlib.sha256(kept[0]).digest()
            self._check_complete(digest)
            return await self._commit(InlineBody(data=bytes(kept[0])), digest)
        profile = await write_profile(
            store,
            request.bucket,
            request.profile,
            creates_bucket=request.creates_bucket,
            proposer=self._proposer,
        )
        if is_long:
            return await self._long(profile, [self._stripe(kept.pop())])
        return await self._short(profile, kept.pop())

    def _stripe(self, plain: Bytes) -> PlainStripe:
        return PlainStripe(plain, hashed=self._hash.add(plain))

    def _closed(self, stripe: PlainStripe) -> PlainStripe:
        return replace(stripe, lent=self._loan.close(len(stripe.plain)))

    async def _short(self, profile: Profile, first: Bytes) -> StoredObject:
        """Up to two stripes: sent while they arrive, kept until the commit answers.

        If others need the memory meanwhile they are staged, as those of a long body.
        """
        kept = [self._sent(first, profile)]
        writing = [kept[0].writing]
        del first
        try:
            if await self._cutter.more():
                if plain := await self._cutter.next():
                    kept.append(self._sent(plain, profile))
                    writing.append(kept[-1].writing)
                del plain
                if await self._cutter.more():
                    return await self._long(profile, kept)
            self._loan.close(self._loan.open_bytes)
            digest = await self._hash.digest()
            self._check_complete(digest)
            drafts = [await draft for draft in writing if draft is not None]
            return await self._commit_rewriting(profile, kept, drafts, digest)
        finally:
            await _cancel([task for task in writing if task is not None])

    def _sent(self, plain: Bytes, profile: Profile) -> PlainStripe:
        """A stripe of which the shards are on their way."""
        writing = asyncio.create_task(write_stripe(self._store, plain, profile))
        return replace(self._stripe(plain), writing=writing)

    async def _commit_rewriting(
        self,
        profile: Profile,
        kept: Sequence[PlainStripe],
        drafts: list[StripeDraft],
        digest: bytes,
    ) -> StoredObject:
        for _ in range(WRITES_MAX - 1):
            try:
                return await self._commit(StripesBody(stripes=tuple(drafts)), digest)
            except StoreError as error:
                if not is_rewritable(error):
                    raise
            # Too old to be named now, or their disks have gone meanwhile: write them again.
            drafts = [await write_stripe(self._store, each.plain, profile) for each in kept]
        return await self._commit(StripesBody(stripes=tuple(drafts)), digest)

    async def _long(self, profile: Profile, head: list[PlainStripe]) -> StoredObject:
        body = LongBody(self._store, profile)
        try:
            await body.stage(self._request.bucket, self._request.key, self._stripes(head))
            digest = await self._hash.digest()
            self._check_complete(digest)
            stored = await self._commit(UploadBody(upload=body.upload), digest)
        except BaseException:
            body.abort()
            raise
        if self._request.finishes:
            # Somebody may have finished it before us: then what we staged is nobody's.
            body.abort()
        return stored

    async def _stripes(self, head: list[PlainStripe]) -> AsyncIterator[PlainStripe]:
        """Those of `head`, which is emptied, then the rest of the body. From here on none
        depends on the client: each is named, and its memory given back."""
        head[:] = map(self._closed, head)
        while head:
            yield head.pop(0)
        while plain := await self._cutter.next():
            stripe = self._closed(self._stripe(plain))
            del plain
            yield stripe
            del stripe
            await self._hash.keep_up()

    def _check_complete(self, digest: bytes) -> None:
        """Raises IncompleteBody, BadDigest."""
        declared = self._request.size_bytes
        if declared is not None and declared != self._cutter.size_bytes:
            raise IncompleteBody(f"{self._cutter.size_bytes} of {declared} bytes came.")
        expected = self._request.sha256
        if expected is not None and expected != digest:
            raise BadDigest(
                f"The body has SHA-256 {digest.hex()}, the request declares {expected.hex()}."
            )

    async def _commit(self, body: Body, digest: bytes) -> StoredObject:
        request = self._request
        command = PutObject(
            bucket=request.bucket,
            key=request.key,
            attributes=ObjectAttributes(
                size_bytes=self._cutter.size_bytes,
                sha256=digest,
                content=dict(request.content),
                user=dict(request.user),
            ),
            body=body,
            conditions=request.conditions,
            finishes=request.finishes,
        )
        try:
            put = await self._proposer.propose(command, ObjectPut)
        except NoSuchBucket:
            if not request.creates_bucket:
                raise
            await ensure_bucket(self._store, request.bucket, proposer=self._proposer)
            put = await self._proposer.propose(command, ObjectPut)
        return StoredObject(
            number=put.number,
            version_id=put.version_id,
            created_at_ms=put.created_at_ms,
            size_bytes=self._cutter.size_bytes,
            sha256=digest,
        )


async def _cancel(tasks: Sequence[asyncio.Task[StripeDraft]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
