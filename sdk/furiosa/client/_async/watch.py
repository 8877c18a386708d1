"""A state that changes, seen each time it has."""

from collections.abc import Callable
from typing import Generic, Self, TypeVar

from furiosa.client._async.snapshots import Snapshots

_T = TypeVar("_T")


class Watch(Generic[_T]):
    """An iterator over states, for one task at a time. It ends when the broker has no more to tell.

    While nobody asks for the next state only the newest one is kept. Leave it with `aclose`, by
    `async with`, or by letting go of it: nothing of it stays with the broker.
    Iterating raises what the broker says, and BrokerUnavailable when it is gone.
    """

    def __init__(self, snapshots: Snapshots, convert: Callable[[bytes], _T]) -> None:
        self._snapshots = snapshots
        self._convert = convert

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _T:
        data = await self._snapshots.take()
        if data is None:
            raise StopAsyncIteration
        return self._convert(data)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """No effect the second time."""
        self._snapshots.close()
