"""Who still has a queue: told without a lock, since the garbage collector tells."""

import os
from contextlib import suppress


class Halves:
    """Which halves of a queue somebody holds; `fd` is readable when that has changed, or after `ring`.

    Owns `fd`, for as long as anybody may write to it: there is no `close`.
    """

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.submitter = self.receiver = True

    def drop_submitter(self) -> None:
        self.submitter = False
        self.ring()

    def drop_receiver(self) -> None:
        self.receiver = False
        self.ring()

    def ring(self) -> None:
        os.eventfd_write(self.fd, 1)

    def hush(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self.fd)

    def __del__(self) -> None:
        os.close(self.fd)
