"""A revision number that grows, and a way to wait until it has: what the Watch streams stand on.

A watcher that is slow sees fewer, later states; it never holds anybody up and nothing piles up for it.
"""

import asyncio


class Changes:
    def __init__(self) -> None:
        self._revision = 1
        self._changed = asyncio.Event()

    def bump(self) -> None:
        self._revision += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def beyond(self, revision: int) -> int:
        """The revision, as soon as it is greater than `revision`."""
        while self._revision <= revision:
            await self._changed.wait()
        return self._revision
