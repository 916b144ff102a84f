"""The life of a daemon: start, serve, drain on a signal, exit with a code that tells.

::

    async def main(stopper: Stopper) -> None:
        server = serve(...)
        stopper.tasks.spawn(heartbeat(), name="heartbeat")
        await stopper.wait()            # SIGTERM, SIGINT or a fatal error
        await server.stop(grace_s=10)

    sys.exit(run(main))

Exit codes: 0 stopped as asked; 1 refused to start, the log says why; 70 a bug or a fatal
error in the background; 75 the drain deadline passed; 128 + N a second signal N.
"""

import asyncio
import gc
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import uvloop

from osscore.errors import StoreError
from ossd.memory import KEEP_FREED_BYTES, keep_freed

EXIT_OK = 0
EXIT_REFUSED = 1
EXIT_FATAL = 70
EXIT_DRAIN_CUT = 75
THREADS_WAIT_S = 5.0

log = logging.getLogger(__name__)


class Tasks:
    """Owns background tasks: one that fails is reported, all are cancelled at the end."""

    def __init__(self, on_error: Callable[[BaseException], None]) -> None:
        self._on_error = on_error
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
        """Run `work` beside everything else; what it raises goes to `on_error`."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_error(error)

    async def close(self) -> None:
        """Cancel whatever still runs and wait until it has ended."""
        while self._tasks:
            running = list(self._tasks)
            for task in running:
                task.cancel()
            await asyncio.wait(running)
            # Their done callbacks run one turn later; without it this loop would spin.
            await asyncio.sleep(0)


class Stopper:
    """Tells the parts of a daemon that it is to stop. Its methods may be called from any
    thread, except `wait` and the tasks."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._lock = threading.Lock()
        self.error: BaseException | None = None
        self.tasks = Tasks(self.fatal)

    @property
    def stopping(self) -> bool:
        """Whether the stop has begun; `/readyz` answers 503 from then on."""
        return self._event.is_set()

    def stop(self) -> None:
        """Begin to stop; again: no change."""
        try:
            self._loop.call_soon_threadsafe(self._event.set)
        except RuntimeError:
            pass  # the loop has ended: what was to be stopped is over

    def fatal(self, error: BaseException) -> None:
        """Begin to stop because of `error`; the process exits with 70."""
        with self._lock:
            if self.error is not None:
                return
            self.error = error
        log.critical("fatal_error", extra={"error": str(error)}, exc_info=error)
        self.stop()

    async def wait(self) -> None:
        """Return once the stop begins."""
        await self._event.wait()


Start = Callable[[Stopper], Awaitable[None]]


def run(start: Start, *, drain_s: float = 30, keep_freed_bytes: int = KEEP_FREED_BYTES) -> int:
    """Run a daemon to its end and give its exit code.

    `start` builds everything, waits for the stopper and takes everything down again; from
    the stop on it has `drain_s`, then it is cancelled. `keep_freed_bytes`: see `ossd.memory`.
    """
    keep_freed(keep_freed_bytes)
    # What was imported stays: no collection need look at it again.
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(_life(start, drain_s))
        # The runner waits for threads; one may hang in a system call on a dying disk.
        last = threading.Timer(THREADS_WAIT_S, os._exit, (code,))
        last.daemon = True
        last.start()
    last.cancel()
    return code


async def _life(start: Start, drain_s: float) -> int:
    stopper = Stopper()
    _bind_signals(stopper)
    main = asyncio.ensure_future(start(stopper))
    stop = asyncio.ensure_future(stopper.wait())
    try:
        await asyncio.wait({main, stop}, return_when=asyncio.FIRST_COMPLETED)
        stopper.stop()
        _, late = await asyncio.wait({main}, timeout=drain_s)
        if late:
            log.error("drain_deadline_passed", extra={"drain_s": drain_s})
            main.cancel()
            await asyncio.wait({main}, timeout=1)
        code = _exit_code(main, stopper)
        return EXIT_DRAIN_CUT if late and code == EXIT_OK else code
    finally:
        stop.cancel()
        await stopper.tasks.close()


def _exit_code(main: asyncio.Future[None], stopper: Stopper) -> int:
    error = main.exception() if main.done() and not main.cancelled() else None
    if stopper.error is not None:
        return EXIT_FATAL
    if isinstance(error, (StoreError, OSError)):
        # Expected ways not to start: a wrong setting, a port in use, a folder not ours.
        log.critical("stopped_by_error", extra={"error": str(error)})
        return EXIT_REFUSED
    if error is not None:
        log.critical("fatal_error", extra={"error": str(error)}, exc_info=error)
        return EXIT_FATAL
    return EXIT_OK


def _bind_signals(stopper: Stopper) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stopper, number)


def _on_signal(stopper: Stopper, number: signal.Signals) -> None:
    if stopper.stopping:
        # Asked twice: at once, without flushing anything. Everything acknowledged is durable.
        os._exit(128 + number)
    log.info("stopping", extra={"signal": number.name})
    stopper.stop()
