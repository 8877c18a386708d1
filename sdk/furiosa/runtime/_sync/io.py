"""How this twin waits. Written by hand, as `_async/io.py` is."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

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
