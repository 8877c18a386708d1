"""Lets go of what depends on the journal once the journal is as safe as it shall be.

With `Sync.ALWAYS` many grants share one fsync: those that come while one is running wait for the next.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Callable
from typing import Final

from furiosa.broker.journal import Journal, Sync
from furiosa.broker.log import event

log = logging.getLogger(__name__)

Then = Callable[[OSError | None], None]
INTERVAL_SECONDS: Final = 1.0


class Syncing:
    """`on_synced(seconds)` is told how long each fsync took."""

    def __init__(self, journal: Journal, on_synced: Callable[[float], None]) -> None:
        self._journal = journal
        self._on_synced = on_synced
        self._held: list[Then] = []
        self._running: list[Then] | None = None
        self._due: asyncio.TimerHandle | None = None

    def then(self, tell: Then) -> None:
        """Call `tell` with None when all that was appended is safe enough, or with why it is not."""
        if self._journal.sync is Sync.ALWAYS:
            self._held.append(tell)
            if self._running is None:
                # at the end of this turn: who else is granted something in it shares the fsync
                self._running = []
                asyncio.get_running_loop().call_soon(self._start)
            return
        if self._journal.sync is Sync.SECOND and self._due is None:
            loop = asyncio.get_running_loop()
            self._due = loop.call_later(INTERVAL_SECONDS, self._start)
        tell(None)

    async def idle(self) -> None:
        """Until nothing is held back by an fsync."""
        while self._running is not None:
            told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._held.append(functools.partial(_tell, told))
            await told

    def _start(self) -> None:
        self._due = None
        self._running, self._held = self._held, []
        flush = self._journal.unflushed()
        if flush is None:
            self._finish(None)
            return
        started = time.monotonic()
        flushed = asyncio.get_running_loop().run_in_executor(None, flush)

        def done(future: "asyncio.Future[None]") -> None:
            if future.cancelled():
                return
            self._on_synced(time.monotonic() - started)
            exc = future.exception()
            error = None if exc is None else OSError(str(exc))
            if error is not None:
                event(log, "journal.not_synced", logging.ERROR, cause=error)
                try:
                    self._journal.rewrite()
                except OSError as again:
                    error = again
                else:
                    error = None  # all of it stands in the new file
            self._finish(error)

        flushed.add_done_callback(done)

    def _finish(self, error: OSError | None) -> None:
        running, self._running = self._running or (), None
        for (
            tell
        ) in running:  # each by itself: what fails for one must not leave others without an answer
            asyncio.get_running_loop().call_soon(tell, error)
        if self._held:
            self._running = []
            self._start()


def _tell(told: "asyncio.Future[None]", _: OSError | None) -> None:
    told.set_result(None)
