"""How one task wakes another."""

import asyncio

import anyio

from furiosa.client._async.io import on_trio


class Signal:
    """An event for one waiter. Set it from the event loop's thread."""

    def __new__(cls) -> "Signal":
        return super().__new__(OnTrio if on_trio() else OnAsyncio)

    def set(self) -> None:
        raise NotImplementedError

    async def wait(self, seconds: float | None = None) -> bool:
        """Whether it was set in time."""
        raise NotImplementedError


class OnAsyncio(Signal):
    """A future, which costs a fraction of an event."""

    def __init__(self) -> None:
        self._future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def set(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self, seconds: float | None = None) -> bool:
        if seconds is None:
            await self._future
        else:
            with anyio.move_on_after(seconds):
                await self._future
        return self._future.done() and not self._future.cancelled()


class OnTrio(Signal):
    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self, seconds: float | None = None) -> bool:
        with anyio.move_on_after(seconds):
            await self._event.wait()
        return self._event.is_set()
