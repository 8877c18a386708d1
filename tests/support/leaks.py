"""That a test leaves this process's descriptors as it found them."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from support.queues import open_descriptors

SETTLE_SECONDS = 20.0  # for what gRPC closes in threads of its own
# What gRPC closes some time after its last user has gone, which may be one of an earlier test. Its sockets
# cannot be told from others.
POLLERS = ("anon_inode:[eventpoll]", "anon_inode:[eventfd]")
SOCKET = " socket:["


@contextmanager
def nothing_left_open() -> Iterator[None]:
    """Nothing may be left open at the end, and nothing closed that was open before."""
    before = open_descriptors()
    needed = {name for name in before if not name.endswith(POLLERS)}
    if "grpc" in sys.modules:
        needed = {name for name in needed if SOCKET not in name}
    yield
    deadline = time.monotonic() + SETTLE_SECONDS
    while not needed <= (found := open_descriptors()) <= before and time.monotonic() < deadline:
        time.sleep(0.001)
    assert sorted(found - before) == [], "descriptors were left open"
    assert sorted(needed - found) == [], "descriptors of others were closed"
