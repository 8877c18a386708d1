"""How this twin waits. Written by hand, as `_sync/io.py` is; the rest of `_sync` is generated."""

import asyncio
import contextlib
import functools
import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, Sequence
from contextvars import Context
from types import TracebackType
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, TypeVarTuple

import anyio
import anyio.to_thread
import numpy.typing as npt

from furiosa.client import Connection as Connection

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

Array = npt.NDArray[Any]

Lock = anyio.Lock


class Signal:
    """An event for one waiter. Set it from the event loop's thread."""

    def __init__(self) -> None:
        self._future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def set(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self, seconds: float | None = None) -> bool:
        """Whether it was set in time."""
        if seconds is None:
            await self._future
        else:
            with anyio.move_on_after(seconds):
                await self._future
        return self._future.done() and not self._future.cancelled()


class Watch:
    """Waits for the same descriptors and for news of a lease, again and again; one task at a time.

    The event loop keeps the descriptors from one wait to the next, which costs less than half of telling
    it each time; it drops them when one becomes readable and nobody waits.
    """

    def __init__(
        self, connection: Connection, lease_id: str, descriptors: Sequence[int], bell: int
    ) -> None:
        self._connection = connection
        self._lease_id = lease_id
        self._descriptors = (*descriptors, bell)
        self._kept: tuple[int, ...] = ()  # by `_loop`; duplicates, ours to close
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sleeper: asyncio.Future[None] | None = None
        self._look: Callable[[], bool] | None = None  # the sleeper's
        self._unheard = False

    async def wait(self, look: Callable[[], bool], spin_ns: int) -> None:
        """Calls `look` when one of the descriptors is readable or something has arrived, and returns
        when that says so; `spin_ns` is for the other twin. Raises: BrokerUnavailable.
        """
        if not self._connection.is_quiet(self._lease_id):
            await self._connection.wait(self._descriptors, self._lease_id)
            look()
            return
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
            self._keep(loop)
        self._unheard = False
        self._sleeper = sleeper = loop.create_future()
        self._look = look
        try:
            await sleeper
        finally:
            self._sleeper = self._look = None

    def close(self) -> None:
        """From any thread, since the garbage collector calls it, too."""
        loop = self._loop
        if loop is None or loop.is_closed() or asyncio._get_running_loop() is loop:
            self._drop()
        else:
            with contextlib.suppress(RuntimeError):  # closed in between
                loop.call_soon_threadsafe(self._drop)

    def _keep(self, loop: asyncio.AbstractEventLoop) -> None:
        # duplicates: others have the loop wait for the same socket, and these may outlive the originals
        self._kept = tuple(map(os.dup, (*self._descriptors, self._connection.fileno())))
        for fd in self._kept:
            loop.add_reader(fd, self._readable)

    def _drop(self) -> None:
        loop, kept = self._loop, self._kept
        self._loop, self._kept = None, ()
        for fd in kept:
            assert loop is not None
            loop.remove_reader(fd)
            os.close(fd)

    def _readable(self) -> None:
        # It looks here, not in the task: before that one runs the loop would find the same once more.
        look, sleeper = self._look, self._sleeper
        if look is not None and sleeper is not None:
            if look() and not sleeper.done():
                sleeper.set_result(None)
        elif self._unheard:
            self._drop()
        else:
            self._unheard = True  # a last echo of what has been read


class Crew:
    """Tasks of the event loop that outlive the call which starts them; at most `size` at a time."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself would let go of them

    def start(self, function: Callable[[*_Ts], Coroutine[Any, Any, None]], *args: *_Ts) -> None:
        task = asyncio.create_task(function(*args), context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def dismiss(self) -> None:
        """Nobody is started any more."""

    async def ended(self, seconds: float) -> bool:
        """Whether all but the calling task end in time."""
        tasks = self._tasks - {asyncio.current_task()}
        return not tasks or not (await asyncio.wait(tasks, timeout=seconds))[1]


class Receiving(ABC):
    """What receives."""

    async def recv(self) -> tuple[Any, list[Array]]:
        """The context and the outputs of the next inference that is finished; waits for one.

        Any number of calls may be active at once. A cancelled one has received nothing.
        Raises: what the inference failed with, see `context` of the error; SessionTerminated when the
        submitter is closed and everything has been received, or the lease or the broker is gone;
        SessionClosed.
        """
        return await self._recv(None)

    @abstractmethod
    async def _recv(self, seconds: float | None) -> tuple[Any, list[Array]]: ...


async def in_thread(function: Callable[[], _T]) -> _T:
    """Its result, without holding up the event loop. When cancelled, the thread ends unheard."""
    return await anyio.to_thread.run_sync(function, abandon_on_cancel=True)


def hang_up(connection: Connection) -> None:
    """Close a connection where there may be no event loop any more; closing never waits."""
    with contextlib.suppress(StopIteration):
        connection.close().send(None)
        raise RuntimeError("closing a connection waited for something")


@contextlib.contextmanager
def uninterrupted(seconds: float) -> Iterator[None]:
    """The body runs to its end although its task is cancelled, but not for longer than `seconds`."""
    with anyio.move_on_after(seconds, shield=True):
        yield


class Closable(Protocol):
    async def __aenter__(self) -> Any: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


_C = TypeVar("_C", bound=Closable)


class Opening(Generic[_C]):
    """Something about to be opened: await it for the value, or enter it to have it closed as well."""

    def __init__(self, opened: Coroutine[Any, Any, _C]) -> None:
        self._opened: Awaitable[_C] = opened
        self._value: _C | None = None

    def __await__(self) -> Generator[Any, Any, _C]:
        return self._opened.__await__()

    async def __aenter__(self) -> _C:
        self._value = await self._opened
        await self._value.__aenter__()
        return self._value

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._value is not None
        await self._value.__aexit__(kind, value, traceback)


def opening(function: Callable[_P, Coroutine[Any, Any, _C]]) -> Callable[_P, Opening[_C]]:
    """Makes a coroutine function's calls awaitable and usable with `async with`."""

    @functools.wraps(function)
    def opened(*args: _P.args, **kwargs: _P.kwargs) -> Opening[_C]:
        return Opening(function(*args, **kwargs))

    return opened
