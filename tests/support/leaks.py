"""That a test leaves this process's descriptors as it found them."""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager

from support.queues import open_descriptors

SETTLE_SECONDS = 20.0  # for what gRPC closes in threads of its own


@contextmanager
def nothing_left_open() -> Iterator[None]:
    """Nothing may be left open at the end, and nothing closed that was open before."""
    gc.collect()  # what earlier tests left in cycles goes now, not meanwhile
    before = open_descriptors()
    yield
    deadline = time.monotonic() + SETTLE_SECONDS
    while (found := open_descriptors()) != before and time.monotonic() < deadline:
        gc.collect()  # tracebacks of expected errors hold on to what they passed through
        time.sleep(0.001)
    assert sorted(found - before) == [], "descriptors were left open"
    assert sorted(before - found) == [], "descriptors of others were closed"
