"""Eventfds as doorbells: the producer adds one for each record, the consumer takes exactly that many.

Why this is all the synchronisation the rings need
--------------------------------------------------
There is no head, tail or "I sleep" flag in shared memory. A record counts once its doorbell has been
rung, and the count lives in the kernel, so a wake-up cannot be lost and a stranger cannot forge one
without also owning the eventfd.

Order: the producer's stores to the record (and, before it, to the arena) precede its write(2) in the
program. The compiler cannot move them past the call: they are made inside `struct.pack_into` or numpy,
behind pointers that escape. The CPU may, on arm64 it does reorder plain stores, but eventfd_write
changes the counter under a spinlock, and releasing a lock orders every earlier store of that CPU before
it. eventfd_read takes the same lock to fetch the counter; an acquire that sees the release sees those
stores, and the consumer's loads come after it. So the record is complete when it is counted, on x86-64
and on arm64, and no barrier instruction, which Python could not issue, is needed. Waking by epoll alone
would not be enough (it reads the counter without the lock): always read the count.

The way back is the same argument turned round: the consumer has copied a record before it rings the
completion that lets the producer reuse the slot.

O_NONBLOCK belongs to the description both sides share, so a hostile client can take it away and make
its own worker wait in here. It harms nobody else: the worker serves that one lease, and the broker's
next request to it runs into its deadline.
"""

import os
from typing import Final

from furiosa.queuepair.layout import BrokenQueue

_ONE: Final = 1


def ring(fd: int) -> None:
    """Raises: BrokenQueue when the counter is at its end: the other side filled it by hand."""
    try:
        os.eventfd_write(fd, _ONE)
    except BlockingIOError:
        raise BrokenQueue("the doorbell's counter is full") from None


def count(fd: int) -> int:
    """How often it was rung since the last call; 0 at once when it was not."""
    try:
        return os.eventfd_read(fd)
    except BlockingIOError:
        return 0
