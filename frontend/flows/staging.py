"""The upload row of one long body: stripes are named window by window (SAFETY rule 4).

One Stage command at a time carries everything that is ready: the stripes that continue the
upload, and the questions whether stripes to come exist already. While none is ready, an
empty one goes out now and then, so that the row does not expire under a slow client.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from frontend.flows.store import Store
from osscore.errors import (
    NoSuchStripe,
    OutcomeUnknown,
    StaleStripe,
    StoreError,
    UnderReplicated,
)
from osscore.model import StripeDraft
from raftmeta.commands import AbortUpload, BeginUpload, Done, Stage, Staged, StripeQuestion

_WINDOW_S_MAX = 30.0
_APPENDS_MAX = 8


class Staging:
    """The stripes that one request adds to an upload. A task of its own sends the windows.

    The upload is a new one that `begin` opens, or one that exists already and stands at
    stripe number `position`: then `resume` instead.
    """

    def __init__(self, store: Store, *, upload: bytes = b"", position: int = 0) -> None:
        self._store = store
        self.upload = upload or store.random(16)
        self._position = position
        self._appends: dict[int, tuple[StripeDraft | int, asyncio.Future[None]]] = {}
        self._asks: list[tuple[StripeQuestion, asyncio.Future[int]]] = []
        self._work = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None
        self._failure: StoreError | None = None

    async def begin(self, bucket: str, key: str) -> None:
        """Open the row. Raises NoSuchBucket."""
        settings = self._store.settings
        command = BeginUpload(
            upload=self.upload, bucket=bucket, key=key, ttl_ms=int(settings.upload_ttl_s * 1000)
        )
        await self._store.meta.propose(command, Done)
        self.resume()

    @property
    def position(self) -> int:
        """Number of the next stripe that the catalog awaits."""
        return self._position

    def resume(self) -> None:
        """Go on where the upload stands."""
        self._sender = asyncio.create_task(self._send_windows())

    async def ask(self, question: StripeQuestion) -> int:
        """Row of a healthy stripe with those bytes, held for this upload; 0: there is none."""
        self._check()
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._asks.append((question, answer))
        self._work.set()
        return await answer

    async def append(self, position: int, piece: StripeDraft | int) -> None:
        """Name stripe `position` of the body; returns once the catalog holds it.

        Raises StaleStripe or UnderReplicated: write the stripe again and append that.
        """
        self._check()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._appends[position] = (piece, done)
        self._work.set()
        await done

    async def stop(self) -> None:
        """Send no more windows; the row stays."""
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.wait({self._sender})

    async def abort(self) -> None:
        """Give everything back, as far as that can be done now; else the row expires."""
        try:
            await self._store.meta.propose(AbortUpload(upload=self.upload), Done, deadline_s=10)
        except StoreError:
            pass  # the row expires by itself

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _send_windows(self) -> None:
        interval_s = min(_WINDOW_S_MAX, self._store.settings.gc_grace_s / 4)
        error: StoreError = OutcomeUnknown("The upload was given up.")
        try:
            while True:
                try:
                    async with asyncio.timeout(interval_s):
                        await self._work.wait()
                except TimeoutError:
                    pass  # an empty window keeps the row alive
                self._work.clear()
                await self._send_window()
        except StoreError as raised:
            error = raised
        finally:
            self._failure = error
            _fail_all([*self._appends.values(), *self._asks], error)

    async def _send_window(self) -> None:
        ready = self._ready()
        asks, self._asks = self._asks, []
        command = Stage(
            upload=self.upload,
            position=self._position,
            append=tuple(piece for piece, _ in ready),
            ask=tuple(question for question, _ in asks),
        )
        try:
            staged = await self._store.meta.propose(command, Staged)
        except StoreError as error:
            _fail_all([*ready, *asks], error)
            if not is_rewritable(error):
                raise
            return
        self._position += len(ready)
        for _, done in ready:
            if not done.done():
                done.set_result(None)
        for (_, answer), hit in zip(asks, staged.hits, strict=True):
            if not answer.done():
                answer.set_result(hit)

    def _ready(self) -> list[tuple[StripeDraft | int, asyncio.Future[None]]]:
        """The stripes that continue the upload where it stands."""
        ready: list[tuple[StripeDraft | int, asyncio.Future[None]]] = []
        while self._position + len(ready) in self._appends and len(ready) < _APPENDS_MAX:
            ready.append(self._appends.pop(self._position + len(ready)))
        if self._position + len(ready) in self._appends:
            self._work.set()
        return ready


def _fail_all(waiting: Iterable[tuple[object, asyncio.Future[Any]]], error: StoreError) -> None:
    for _, future in waiting:
        if not future.done():
            future.set_exception(error)


def is_rewritable(error: StoreError) -> bool:
    """Whether writing the stripe again helps: it grew too old, or its disks have gone."""
    return isinstance(error, (StaleStripe, UnderReplicated, NoSuchStripe))
