"""A state that changes, seen each time it has."""

import threading
from collections.abc import Callable
from typing import Generic, Self, TypeVar

from furiosa.client._async.session import Session
from furiosa.client._core.inbox import Call
from furiosa.common.errors import FuriosaError

_T = TypeVar("_T")


class Watch(Generic[_T]):
    """An iterator over states, for one task at a time. It ends when the broker has no more to tell.

    While nobody asks for the next state only the newest one is kept. Leave it with `aclose`, by
    `async with`, or by letting go of it: nothing of it stays with the broker.
    Iterating raises what the broker says, and BrokerUnavailable when it is gone; RuntimeError for a
    second task.
    """

    def __init__(self, session: Session, call: Call, convert: Callable[[bytes], _T]) -> None:
        """`call` is a stream of the session."""
        self._session = session
        self._call = call
        self._convert = convert
        self._over = False
        self._taking = threading.Lock()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _T:
        if not self._taking.acquire(blocking=False):
            raise RuntimeError("somebody else is waiting for the next state of this watch")
        try:
            data = None if self._over else await self._session.take(self._call)
            if data is None:
                self._over = True
                raise StopAsyncIteration
            return self._convert(data)
        except FuriosaError:
            self._over = True
            raise
        finally:
            self._taking.release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """No effect the second time."""
        self._over = True
        self._session.abandon(self._call, blocking=True)

    def __del__(self) -> None:
        # the garbage collector may call this anywhere, also where this thread holds the session's lock
        self._session.abandon(self._call, blocking=False)
