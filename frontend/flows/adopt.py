"""A large file that a user sent to a blob daemon is taken in: an ordinary PUT, exactly once.

The temp's id is the id of an upload, which the commit finishes and which remembers the
version (`PutObject.finishes`). So it does not matter how often, where, or how many at a time
this runs for one temp: the first commit counts, and all answer its version.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from blobd.wire import Adopt, Adopted
from frontend.flows.finish import stored
from frontend.flows.put import PutRequest, StoredObject, put_object
from frontend.flows.store import Store
from frontend.flows.uploads import begin_upload, find_upload
from osscore.errors import (
    BadDigest,
    Conflict,
    CorruptShard,
    DeadlineExceeded,
    IncompleteBody,
    NoSuchShard,
    NoSuchUpload,
    OutcomeUnknown,
    Overloaded,
    PeerUnreachable,
)
from osscore.model import Profile
from osscore.names import ObjectKey
from osscore.paths import DEFAULT_BUCKET
from raftmeta.commands import UploadPlan
from raftmeta.queries import UploadFound

PIECE_DEADLINE_S = 60.0
TRIES = 3
TRY_AGAIN_S = 1.0
TURN_S = 60.0
"""A temp whose turn has not come by then is for another frontend, or later."""
REMEMBER_S = 86_400.0
"""The version is remembered for so long beyond the last moment at which it may be asked for."""
_PASSING = (PeerUnreachable, DeadlineExceeded, OutcomeUnknown, Overloaded)


async def adopt(store: Store, request: Adopt) -> Adopted:
    """Make a version of a temp; again: the same version.

    Raises NoSuchUpload (the temp is gone), CorruptShard (its bytes are not those that were
    sent), InvalidName, InvalidArgument, Conflict (the id is another object's), Overloaded
    (many are taken in already), and as put_object; nothing is named then.
    """
    async with _turn(store):
        return await _adopt(store, request)


@asynccontextmanager
async def _turn(store: Store) -> AsyncIterator[None]:
    """Some at a time: each holds a piece that no room is lent for yet."""
    try:
        async with asyncio.timeout(TURN_S):
            await store.adopting.acquire()
    except TimeoutError as error:
        raise Overloaded("This frontend takes in as many uploads as it may.") from error
    try:
        yield
    finally:
        store.adopting.release()


async def _adopt(store: Store, request: Adopt) -> Adopted:
    found = await _find_or_begin(store, request)
    if (found.bucket, found.key) != (DEFAULT_BUCKET, request.name):
        raise Conflict("An upload of this id is for another object.")
    if found.finished is not None:
        return _adopted(stored(found.finished, request.size_bytes, request.sha256))
    put = PutRequest(
        bucket=DEFAULT_BUCKET,
        key=request.name,
        size_bytes=request.size_bytes,
        profile=Profile.parse(request.profile) if request.profile else None,
        content=request.content,
        user=request.user,
        sha256=request.sha256,
        creates_bucket=True,
        finishes=request.temp,
    )
    try:
        async with aclosing(_pieces(store, request)) as body:
            return _adopted(await put_object(store, put, body))
    except (BadDigest, IncompleteBody) as error:
        # They were compared when they came in: what changed them is not the user.
        raise CorruptShard(f"The upload changed where it waited: {error.message}") from error


async def _find_or_begin(store: Store, request: Adopt) -> UploadFound:
    try:
        return await find_upload(store, request.temp)
    except NoSuchUpload:
        plan = UploadPlan(
            owner=request.access_key, size_bytes=request.size_bytes, sha256=request.sha256
        )
        await begin_upload(
            store,
            DEFAULT_BUCKET,
            str(ObjectKey.parse(request.name)),
            plan,
            ttl_s=request.expires_in_ms / 1000 + REMEMBER_S,
            upload=request.temp,
            creates_bucket=True,
        )
        return await find_upload(store, request.temp)


async def _pieces(store: Store, request: Adopt) -> AsyncGenerator[bytes, None]:
    for number in range(request.piece_count):
        yield await _piece(store, request, number)


async def _piece(store: Store, request: Adopt, number: int) -> bytes:
    tries = 1
    while True:
        try:
            return await store.blobs.get_temp_piece(
                request.url, request.temp, number, deadline_s=PIECE_DEADLINE_S
            )
        except NoSuchShard as error:
            raise CorruptShard(f"Piece {number} of the upload is gone.") from error
        except _PASSING:
            if tries == TRIES:
                raise
        tries += 1
        await store.clock.sleep(TRY_AGAIN_S)


def _adopted(version: StoredObject) -> Adopted:
    return Adopted(
        number=version.number,
        version_id=version.version_id,
        created_at_ms=version.created_at_ms,
    )
