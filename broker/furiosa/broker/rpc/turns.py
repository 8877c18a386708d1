"""Whose turn it is, when several clients have calls ready: one of each in turn, whatever each has.

So a client that sends as fast as it can delays another by one call of its own, not by all of them.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Final

Take = Callable[[], bool]  # takes one; whether there may be another

# A call that comes alone is not put off to the loop's next turn; within this many seconds after another
# one it is, so that the loop looks in between who else has something.
ALONE_SECONDS: Final = 0.0002


class Turns:
    def __init__(self) -> None:
        self._waiting: dict[Hashable, deque[Take]] = {}  # by whom; the first one is next
        self._taken_at = -1.0
        self._scheduled = False

    def ready(self, who: Hashable, take: Take) -> None:
        """`take` is called now or soon, until it returns False."""
        alone = not self._waiting and time.monotonic() - self._taken_at > ALONE_SECONDS
        if alone and not self._take(take):
            return
        self._waiting.setdefault(who, deque()).append(take)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if not self._waiting:
            return
        who = next(iter(self._waiting))
        takes = self._waiting.pop(who)
        take = takes.popleft()
        if self._take(take):
            takes.append(take)
        if takes:
            self._waiting[who] = takes  # behind the others
        if self._waiting:
            self._schedule()

    def _take(self, take: Take) -> bool:
        self._taken_at = math.inf  # what this one makes ready has to wait for its turn
        try:
            return take()
        finally:
            self._taken_at = time.monotonic()
