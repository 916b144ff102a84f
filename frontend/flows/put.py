"""The story of a PUT: data before name. A crash leaves garbage, never a hole."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from frontend.flows.buckets import ensure_bucket, write_profile
from frontend.flows.cut import Cutter
from frontend.flows.hashing import BodyHash
from frontend.flows.long_body import LANES_MAX, LongBody, PlainStripe
from frontend.flows.objects import check_conditions
from frontend.flows.staging import is_rewritable
from frontend.flows.store import Store, stripe_cost_bytes
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
LANES_SHARE_MAX = 0.5
"""Further lanes come from the first half of the budget: the rest lets more requests begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PutRequest:
    """What a dialect asks for. `sha256`: what the body must hash to, if the caller said."""

    bucket: str
    key: str
    size_bytes: int | None
    profile: Profile | None = None
    content: Mapping[str, str] = field(default_factory=dict)
    user: Mapping[str, str] = field(default_factory=dict)
    sha256: bytes | None = None
    conditions: Conditions = field(default_factory=Conditions)
    creates_bucket: bool = False


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
    async with store.budget.hold(_first_cost_bytes(request.size_bytes)):
        return await _Put(store, request, body).run()


def _first_cost_bytes(size_bytes: int | None) -> int:
    """What is held before the first byte is read; a long body's further lanes are surplus."""
    if size_bytes is not None and size_bytes > SHORT_BYTES_MAX:
        return stripe_cost_bytes(STRIPE_BYTES_MAX)
    return stripe_cost_bytes(SHORT_BYTES_MAX if size_bytes is None else size_bytes)


class _Put:
    """One request under way."""

    def __init__(self, store: Store, request: PutRequest, body: AsyncIterator[Bytes]) -> None:
        self._store = store
        self._request = request
        self._cutter = Cutter(
            body,
            stripe_bytes=STRIPE_BYTES_MAX,
            object_bytes_max=store.settings.object_bytes_max,
        )
        self._hash = BodyHash(store)

    async def run(self) -> StoredObject:
        """The story."""
        request, store = self._request, self._store
        is_long = (request.size_bytes or 0) > SHORT_BYTES_MAX
        if is_long:
            # Learnt before gigabytes have travelled; the commit decides all the same.
            await check_conditions(store, request.bucket, request.key, request.conditions)
        first = await self._cutter.next()
        inline_bytes_max = (await store.cluster.current()).described.inline_bytes_max
        if len(first) <= inline_bytes_max:
            digest = hashlib.sha256(first).digest()
            self._check_complete(digest)
            return await self._commit(InlineBody(data=bytes(first)), digest)
        profile = await write_profile(
            store, request.bucket, request.profile, creates_bucket=request.creates_bucket
        )
        self._hash.add(first)
        if is_long:
            return await self._long_alone(profile, first)
        return await self._short(profile, first)

    async def _short(self, profile: Profile, first: Bytes) -> StoredObject:
        """Up to two stripes: sent while they arrive, kept until the commit answers."""
        plains: list[Bytes] = [first]
        writing = [self._write(first, profile)]
        del first
        try:
            if await self._cutter.more():
                plains.append(await self._cutter.next())
                self._hash.add(plains[-1])
                writing.append(self._write(plains[-1], profile))
                if await self._cutter.more():
                    head = [PlainStripe(p, w) for p, w in zip(plains, writing, strict=True)]
                    plains.clear()
                    return await self._long(profile, head, lanes=_SHORT_STRIPES)
            digest = await self._hash.digest()
            self._check_complete(digest)
            drafts = [await draft for draft in writing]
            return await self._commit_rewriting(profile, plains, drafts, digest)
        finally:
            for task in writing:
                task.cancel()
            await asyncio.wait(writing)

    def _write(self, plain: Bytes, profile: Profile) -> asyncio.Task[StripeDraft]:
        return asyncio.create_task(write_stripe(self._store, plain, profile))

    async def _commit_rewriting(
        self, profile: Profile, plains: list[Bytes], drafts: list[StripeDraft], digest: bytes
    ) -> StoredObject:
        for _ in range(WRITES_MAX - 1):
            try:
                return await self._commit(StripesBody(stripes=tuple(drafts)), digest)
            except StoreError as error:
                if not is_rewritable(error):
                    raise
            # Too old to be named now, or their disks have gone meanwhile: write them again.
            drafts = [await write_stripe(self._store, plain, profile) for plain in plains]
        return await self._commit(StripesBody(stripes=tuple(drafts)), digest)

    async def _long_alone(self, profile: Profile, first: Bytes) -> StoredObject:
        """A long body that said so: more than one stripe at a time only if there is room."""
        extra_bytes = stripe_cost_bytes(STRIPE_BYTES_MAX)
        lanes, budget = 1, self._store.budget
        while lanes < LANES_MAX and budget.try_take(extra_bytes, share_max=LANES_SHARE_MAX):
            lanes += 1
        try:
            head = [PlainStripe(first)]
            del first
            return await self._long(profile, head, lanes=lanes)
        finally:
            for _ in range(lanes - 1):
                budget.give(extra_bytes)

    async def _long(self, profile: Profile, head: list[PlainStripe], *, lanes: int) -> StoredObject:
        body = LongBody(self._store, profile, lanes=lanes)
        try:
            await body.stage(self._request.bucket, self._request.key, self._stripes(head))
            digest = await self._hash.digest()
            self._check_complete(digest)
            return await self._commit(UploadBody(upload=body.upload), digest)
        except BaseException:
            body.abort()
            raise

    async def _stripes(self, head: list[PlainStripe]) -> AsyncIterator[PlainStripe]:
        while head:
            yield head.pop(0)
        while plain := await self._cutter.next():
            self._hash.add(plain)
            stripe = PlainStripe(plain)
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
        )
        try:
            put = await self._store.meta.propose(command, ObjectPut)
        except NoSuchBucket:
            if not request.creates_bucket:
                raise
            await ensure_bucket(self._store, request.bucket)
            put = await self._store.meta.propose(command, ObjectPut)
        return StoredObject(
            number=put.number,
            version_id=put.version_id,
            created_at_ms=put.created_at_ms,
            size_bytes=self._cutter.size_bytes,
            sha256=digest,
        )
