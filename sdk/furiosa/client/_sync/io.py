"""How this twin waits. Written by hand, as `_async/io.py` is."""

import math
import select
import time
from collections.abc import Callable, Collection
from typing import Final, TypeVarTuple

_Ts = TypeVarTuple("_Ts")

_MOST: Final = 2**31 - 1  # milliseconds in poll's int; who waits looks at the clock again


def ready(reads: Collection[int], writes: Collection[int], seconds: float | None) -> frozenset[int]:
    """Those descriptors that are ready, or have failed; none when `seconds` have passed."""
    poll = select.poll()
    for fd in reads:
        poll.register(fd, select.POLLIN)
    for fd in writes:
        poll.register(fd, select.POLLOUT | (select.POLLIN if fd in reads else 0))
    milliseconds = None if seconds is None else min(math.ceil(seconds * 1000), _MOST)
    return frozenset(fd for fd, _ in poll.poll(milliseconds))


def pause(seconds: float) -> None:
    time.sleep(seconds)


def uninterrupted(seconds: float, function: Callable[[*_Ts], None], *args: *_Ts) -> None:
    """It ends by its own deadlines; a second Ctrl-C ends it at once. `seconds` has no effect."""
    function(*args)
