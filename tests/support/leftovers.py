"""That nothing is left of what a test has opened on a fake NPU: with the broker, in this process."""

import gc
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from support.fake_connection import FakeNpu
from support.soak_leaks import descriptors_of, mapped_by

SETTLE_SECONDS: Final = 20.0  # for threads that have been told to end


def kept() -> Counter[str]:
    """Descriptors and shared memory by what they are, and threads, without the idle ones that are kept
    by anyio and trio.
    """
    names = (thread.name for thread in threading.enumerate())
    threads = Counter(name for name in names if not name.startswith(("AnyIO ", "Trio ")))
    return descriptors_of(os.getpid()) + mapped_by(os.getpid()) + threads


@contextmanager
def nothing_left(npu: FakeNpu, *, by_hand: bool) -> Iterator[None]:
    """At the end of the body all is closed that it has opened; leases `by_hand`, not just by hanging up."""
    before = kept()
    yield
    assert npu.servers == {}, "queues were left open"
    assert not by_hand or len(npu.released) == len(npu.acquired), "a lease was left"
    assert npu.hung_up == npu.opened, "a connection was left open"
    npu.reap()
    deadline = time.monotonic() + SETTLE_SECONDS
    while (left := kept() - before) and time.monotonic() < deadline:
        gc.collect()  # tracebacks of expected errors hold on to what they passed through
        time.sleep(0.001)
    assert not left, left
