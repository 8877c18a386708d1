"""One timer of the event loop, at the time of a clock that tests can set."""

import asyncio
import math
from collections.abc import Callable

from furiosa.common.clock import Clock


class Alarm:
    """Calls `ring` once, when the time comes that was set last."""

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._due = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def set(self, time: float) -> None:
        """In the clock's seconds; inf: never."""
        if time == self._due:
            return
        self._due = time
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not math.isinf(time):
            delay = max(0.0, time - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay, self._rings)

    def _rings(self) -> None:
        self._due = math.inf
        self._ring()
