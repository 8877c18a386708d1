"""A revision number that grows, and a way to wait until it has: what the Watch streams stand on.

A watcher that is slow sees fewer, later states; it never holds anybody up and nothing piles up for it.
"""

import asyncio
import time


class Changes:
    """Numbers start at the wall clock's microseconds, so that they also grow from one broker process
    to the next: a watcher that goes on from an old number misses nothing.
    """

    def __init__(self) -> None:
        self._revision = time.time_ns() // 1000
        self._changed: asyncio.Event | None = None  # while somebody waits for it

    @property
    def revision(self) -> int:
        return self._revision

    def bump(self) -> None:
        self._revision += 1
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def beyond(self, revision: int) -> int:
        """The revision, as soon as it is greater than `revision`."""
        while self._revision <= revision:
            if self._changed is None:
                self._changed = asyncio.Event()
            await self._changed.wait()
        return self._revision
