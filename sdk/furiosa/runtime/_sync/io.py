"""How this twin waits. Written by hand, as `_async/io.py` is."""

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from furiosa.client.sync import Connection as Connection

_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., object])

Lock = threading.Lock


class Signal:
    """An event for one waiter. Set it from any thread."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Whether it was set in time."""
        return self._event.wait(seconds)


# The connection is left out of the first so many milliseconds of a wait: to wait for it, too, takes turns
# with other threads, which costs more than the rest of the wait.
BRIEF_MS: Final = 2
YIELD_SECONDS: Final = 25e-6  # after a longer one our core is known to be shared
RUNS_ASLEEP: Final = 50  # before the next try


class Watch:
    """Waits for the same descriptors and for news of a lease, again and again; one thread at a time."""

    def __init__(
        self, connection: Connection, lease_id: str, descriptors: Sequence[int], bell: int
    ) -> None:
        self._connection = connection
        self._lease_id = lease_id
        self._descriptors = (*descriptors, bell)
        self._poll = select.poll()
        for fd in self._descriptors:
            self._poll.register(fd, select.POLLIN)
        self._asleep = 0  # runs for which not to spin

    def wait(self, look: Callable[[], bool], seconds: float) -> None:
        """Calls `look` when one of the descriptors is readable, or soon after there are notices to take.

        For so many seconds it does not sleep, as long as it has a core for itself: one that sleeps
        takes 25 us and more to wake. Raises: BrokerUnavailable.
        """
        if self._asleep:
            self._asleep -= 1
        elif seconds and self._spin(seconds):
            look()
            return
        if not self._poll.poll(BRIEF_MS):
            self._connection.wait(self._descriptors, self._lease_id)
        look()

    def close(self) -> None:
        """There is nothing to give back."""

    def _spin(self, seconds: float) -> bool:
        poll, clock, pause = self._poll.poll, time.perf_counter, os.sched_yield
        now = clock()
        end = now + seconds
        while now < end:
            before = now
            pause()
            if poll(0):
                return True
            now = clock()
            if now - before > YIELD_SECONDS:
                self._asleep = RUNS_ASLEEP
                break
        return False


def in_thread(function: Callable[[], _T]) -> _T:
    """Its result; the caller's thread is as good as any."""
    return function()


def hang_up(connection: Connection) -> None:
    connection.close()


@contextlib.contextmanager
def uninterrupted(seconds: float) -> Iterator[None]:
    """The body ends by its own deadlines; a second Ctrl-C ends it at once. `seconds` has no effect."""
    yield


def opening(function: _F) -> _F:
    """Nothing to do: the call returns what it opened, which can be entered."""
    return function
