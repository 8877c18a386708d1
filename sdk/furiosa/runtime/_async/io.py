"""How this twin waits. Written by hand, as `_sync/io.py` is; the rest of `_sync` is generated."""

import contextlib
import functools
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from types import TracebackType
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

import anyio
import anyio.to_thread

from furiosa.client import Connection as Connection

_P = ParamSpec("_P")
_T = TypeVar("_T")

Lock = anyio.Lock


class Signal:
    """An event for one waiter. Set it from the event loop's thread."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self, seconds: float | None = None) -> bool:
        """Whether it was set in time."""
        if seconds is None:
            await self._event.wait()
        else:
            with anyio.move_on_after(seconds):
                await self._event.wait()
        return self._event.is_set()


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
