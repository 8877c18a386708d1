"""Tells those who wait, and want to know, where in the queue they are: at once, then when it changes,
at most once a second. One look at the queue serves all of them, and those who did not ask cost nothing.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from furiosa.common.views import WaiterView

INTERVAL_SECONDS: Final = 1.0

Tell = Callable[[WaiterView], None]


@dataclass(slots=True)
class _Follower:
    tell: Tell
    told: tuple[int, str] | None = None


class QueueNotices:
    """`queue()` gives who waits, by request number."""

    def __init__(self, queue: Callable[[], Iterable[tuple[int, WaiterView]]]) -> None:
        self._queue = queue
        self._followers: dict[int, _Follower] = {}
        self._next: asyncio.Handle | None = None
        self._soon = False

    def joined(self, request: int, tell: Tell) -> None:
        self._followers[request] = _Follower(tell)
        if not self._soon:
            self._soon = True
            self._arm(asyncio.get_running_loop().call_soon(self._tell_all))

    def left(self, request: int) -> None:
        self._followers.pop(request, None)

    def _arm(self, handle: asyncio.Handle) -> None:
        if self._next is not None:
            self._next.cancel()
        self._next = handle

    def _tell_all(self) -> None:
        self._next, self._soon = None, False
        if not self._followers:
            return
        for request, view in self._queue():
            follower = self._followers.get(request)
            if follower is not None and follower.told != (view.position, view.reason):
                follower.told = (view.position, view.reason)
                follower.tell(view)
        self._arm(asyncio.get_running_loop().call_later(INTERVAL_SECONDS, self._tell_all))
