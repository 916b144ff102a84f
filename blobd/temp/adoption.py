"""Having a temp taken in by a frontend: once, however often and by whomever it is confirmed.

The temp's id is the id of an `uploads` row, under which the catalog remembers the version
that was made: a frontend asked again answers that version instead of making another. What
this daemon remembers itself only saves the question.
"""

import asyncio
import logging
from collections.abc import Callable

from blobd.client import BlobClient
from blobd.temp.frontends import Frontends
from blobd.temp.records import TempDone, TempHead, TempId
from blobd.temp.shelf import Shelf
from blobd.temp.temps import FoundTemp, Temps
from blobd.wire import Adopt, Adopted
from osscore.errors import (
    Conflict,
    DeadlineExceeded,
    NoSuchUpload,
    NotReady,
    OutcomeUnknown,
    Overloaded,
    PeerUnreachable,
    StoreError,
    Unavailable,
)
from ossd.clock import Clock
from raftmeta.client import MetaClient
from raftmeta.commands import AbortUpload, Done
from raftmeta.queries import FindUpload, UploadFound

STALL_S = 180.0
"""A frontend that has read nothing for so long, and has not answered, is given up."""
GIVE_UP_S = 10.0
"""How long the metadata may take to say that nothing became of a temp."""
_LOOK_S = 5.0
_ASK_ANOTHER = (PeerUnreachable, DeadlineExceeded, OutcomeUnknown, Overloaded, NotReady)

log = logging.getLogger(__name__)


class Adoptions:
    """The adoptions under way. Use from one event loop; close it.

    `own_url`: the base URL under which frontends reach this daemon.
    """

    def __init__(
        self,
        temps: Temps,
        frontends: Frontends,
        meta: MetaClient,
        blobs: BlobClient,
        *,
        own_url: Callable[[], str],
        clock: Clock,
    ) -> None:
        self._temps = temps
        self._frontends = frontends
        self._meta = meta
        self._blobs = blobs
        self._own_url = own_url
        self._clock = clock
        self._running: dict[TempId, asyncio.Task[TempDone]] = {}
        self._progress_s: dict[TempId, float] = {}

    async def confirm(self, found: FoundTemp) -> TempDone:
        """What became of the temp; if nothing yet, have it taken in.

        Goes on when the caller is cancelled. Raises NoFrontend, NoSuchUpload, Conflict (it is
        being removed), the Unavailable family, and what a PUT of the object would.
        """
        if found.done is not None:
            return found.done
        temp = found.temp
        task = self._running.get(temp)
        if task is None:
            if self._temps.is_busy(temp):
                raise Conflict("This upload is being removed.")
            task = asyncio.create_task(self._adopt(found.shelf, temp), name="adopt")
            self._running[temp] = task
            task.add_done_callback(lambda _: self._running.pop(temp, None))
            # A failure that nobody waits for any more: whoever confirms again sees it anew.
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise NotReady("This daemon is stopping.") from None
            raise

    async def give_up(self, found: FoundTemp) -> None:
        """Remove a temp of which nothing became; durable on return.

        Raises Conflict (it is being taken in, or removed, or a version was made of it),
        DiskFull, DiskFailing, DiskRefused, and Unavailable if the metadata cannot be asked.
        """
        if found.temp in self._running or self._temps.is_busy(found.temp):
            raise Conflict("This upload is being confirmed or removed.")
        with self._temps.busy(found.temp):
            await self._check_unnamed(found.temp)
            await found.shelf.remove(found.temp)

    async def _check_unnamed(self, temp: TempId) -> None:
        """See that no frontend, asked before this daemon restarted, has made or will make a
        version of it. Raises Conflict."""
        await self._meta.propose(AbortUpload(upload=temp), Done, deadline_s=GIVE_UP_S)
        try:
            upload = await self._meta.query(FindUpload(upload=temp), UploadFound)
        except NoSuchUpload:
            return
        number = upload.finished.number if upload.finished else 0
        raise Conflict(f"This upload became version {number} already.")

    def note_read(self, temp: TempId) -> None:
        """A frontend has just read from it: its adoption makes progress."""
        if temp in self._progress_s:
            self._progress_s[temp] = self._clock.monotonic_s()

    async def close(self) -> None:
        """Give up what is under way; whoever confirms it again continues."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    async def _adopt(self, shelf: Shelf, temp: TempId) -> TempDone:
        with self._temps.busy(temp):
            # Another adoption may have ended, or the sweep begun, since it was found.
            done, head = await shelf.done(temp), await shelf.head(temp)
            if done is not None:
                return done
            if head is None:
                raise NoSuchUpload()
            adopted = await self._ask(temp, head)
            done = TempDone(
                name=head.name,
                number=adopted.number,
                version_id=adopted.version_id,
                size_bytes=head.size_bytes,
                sha256=head.sha256,
                expires_at_ms=self._temps.expiry_ms(),
            )
            await self._settle(shelf, temp, done)
            return done

    async def _ask(self, temp: TempId, head: TempHead) -> Adopted:
        adopt = Adopt(
            temp=temp,
            url=self._own_url(),
            name=head.name,
            size_bytes=head.size_bytes,
            sha256=head.sha256,
            piece_count=head.piece_count,
            access_key=head.access_key,
            content=head.content,
            user=head.user,
            profile=head.profile,
            expires_in_ms=max(0, head.expires_at_ms - self._temps.now_ms()),
        )
        failure: Unavailable | None = None
        for url in await self._frontends.to_try():
            try:
                return await self._ask_one(url, adopt, temp)
            except _ASK_ANOTHER as error:
                where = {"temp": temp.hex(), "frontend": url, "reason": error.message}
                log.warning("adoption_failed", extra=where)
                failure = error
        assert failure is not None, "there is at least one to try"
        raise failure

    async def _ask_one(self, url: str, adopt: Adopt, temp: TempId) -> Adopted:
        """Wait for as long as that frontend reads on. Raises DeadlineExceeded if it does not."""
        self._progress_s[temp] = self._clock.monotonic_s()
        asking = asyncio.create_task(self._blobs.ask_to_adopt(url, adopt))
        watching = asyncio.create_task(self._watch(temp))
        try:
            await asyncio.wait((asking, watching), return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                return asking.result()
            raise DeadlineExceeded(f"{url} has not read on for {STALL_S:g} s.")
        finally:
            del self._progress_s[temp]
            for task in (asking, watching):
                task.cancel()
            await asyncio.wait((asking, watching))

    async def _watch(self, temp: TempId) -> None:
        while self._clock.monotonic_s() - self._progress_s[temp] < STALL_S:
            await self._clock.sleep(_LOOK_S)

    async def _settle(self, shelf: Shelf, temp: TempId, done: TempDone) -> None:
        try:
            await shelf.put_done(temp, done)
            await shelf.remove(temp)
        except (StoreError, OSError) as error:
            # The version is there. What is left here goes when it expires, and until then
            # the catalog remembers for us.
            log.warning("temp_left", extra={"temp": temp.hex(), "reason": str(error)})
