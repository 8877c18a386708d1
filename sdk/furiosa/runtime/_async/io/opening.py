"""What can be awaited and entered alike."""

import functools
from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

_P = ParamSpec("_P")


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
