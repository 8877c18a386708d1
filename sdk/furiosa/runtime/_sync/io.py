"""How this twin waits. Written by hand, as `_async/io.py` is."""

import contextlib
import select
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from furiosa.client.sync import Connection as Connection
from furiosa.queuepair.spin import Spin

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


class Watch:
    """Waits for the same descriptors and for news of a lease, again and again; one thread at a time."""

    def __init__(
        self, connection: Connection, lease_id: str, descriptors: Sequence[int], bell: int
    ) -> None:
        self._connection = connection
        self._lease_id = lease_id
        self._descriptors = (*descriptors, bell)
        poll = select.poll()
        for fd in self._descriptors:
            poll.register(fd, select.POLLIN)
        self._poll = poll.poll
        self._spin = Spin()

    def wait(self, look: Callable[[], bool], spin_ns: int) -> None:
        """Calls `look` when one of the descriptors is readable, or soon after there are notices to take;
        for `spin_ns` it stays awake. Raises: BrokerUnavailable.
        """
        if not (spin_ns and self._spin.look(self._poll, spin_ns)) and not self._poll(BRIEF_MS):
            self._connection.wait(self._descriptors, self._lease_id)
        look()

    def close(self) -> None:
        """There is nothing to give back."""


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
