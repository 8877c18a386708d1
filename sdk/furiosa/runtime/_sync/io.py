"""How this twin waits. Written by hand, as `_async/io.py` is."""

import functools
import select
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeVar, TypeVarTuple

import numpy.typing as npt

from furiosa.queuepair.spin import Spin
from furiosa.runtime._core.arguments import checked_seconds
from furiosa.runtime._core.process import Process

if TYPE_CHECKING:
    from furiosa.client.sync import Connection as Connection

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")
_F = TypeVar("_F", bound=Callable[..., object])

lock = threading.Lock
Array = npt.NDArray[Any]


class Signal:
    """An event for one waiter. Set it from any thread."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Whether it was set in time."""
        return self._event.wait(None if seconds is None else min(seconds, threading.TIMEOUT_MAX))


# The connection is left out of the first so many milliseconds of a wait: to wait for it, too, takes turns
# with other threads, which costs more than the rest of the wait.
BRIEF_MS: Final = 2


class Watch:
    """Waits for the same descriptors and for news of a lease, again and again; one thread at a time."""

    def __init__(
        self, connection: "Connection", lease_id: str, descriptors: Sequence[int], bell: int
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


class Crew:
    """Daemon threads that outlive the call which starts them: at most `size`, started when they are
    needed, and kept until they are dismissed.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()  # of the rest
        self._idle = 0  # never fewer than there are, while there are fewer than `size` threads
        self._threads: set[threading.Thread] = set()
        self._dismissed = False

    def start(self, function: Callable[[*_Ts], None], *args: *_Ts) -> None:
        with self._lock:
            self._calls.put(functools.partial(function, *args))
            if self._idle:
                self._idle -= 1
            elif len(self._threads) < self._size:
                thread = threading.Thread(target=self._serve, name="furiosa-queue", daemon=True)
                thread.start()
                self._threads.add(thread)  # one that could not be started cannot be joined either

    def dismiss(self) -> None:
        """Nobody is started any more; they end when they have done what they were started for."""
        with self._lock:
            if not self._dismissed:
                self._dismissed = True
                for _ in range(self._size):
                    self._calls.put(None)

    def ended(self, seconds: float) -> bool:
        """Whether all but the calling thread end in time."""
        deadline = time.monotonic() + seconds
        with self._lock:
            threads = self._threads - {threading.current_thread()}
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _serve(self) -> None:
        try:
            while (call := self._calls.get()) is not None:
                call()
                del call  # it holds what it worked on
                with self._lock:
                    self._idle += 1
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())


class Home(Process):
    """The process alone: any thread of it will do."""

    check_in = Process.check


class Receiving(ABC):
    """What receives."""

    def recv(self, timeout: float | None = None) -> tuple[Any, list[Array]]:
        """The context and the outputs of the next inference that is finished; waits for one.

        `timeout`: in seconds, None waits for as long as it takes. Any number of calls may be active.
        Raises: what the inference failed with, see `context` of the error; TimeoutError; SessionTerminated
        when the submitter is closed and everything has been received, or the lease or the broker is gone;
        SessionClosed; TypeError, ValueError for a timeout that is no time.
        """
        return self._recv(checked_seconds("timeout", timeout))

    @abstractmethod
    def _recv(self, seconds: float | None) -> tuple[Any, list[Array]]: ...


def in_thread(function: Callable[[], _T]) -> _T:
    """Its result; the caller's thread is as good as any."""
    return function()


def connect(*, client: str) -> "Connection":
    """Imported on use: what speaks to a broker is a fifth of what importing the runtime would take.

    Raises: as `Connection.open`.
    """
    from furiosa.client.sync import Connection

    return Connection.open(client=client)


def hang_up(connection: "Connection") -> None:
    connection.close()


def uninterrupted(seconds: float, function: Callable[[*_Ts], None], *args: *_Ts) -> None:
    """It ends by its own deadlines; a second Ctrl-C ends it at once. `seconds` has no effect."""
    function(*args)


def opening(function: _F) -> _F:
    """Nothing to do: the call returns what it opened, which can be entered."""
    return function
