"""How the task that reads for all waits for the devices."""

import asyncio
import contextlib
import os
import select
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import anyio

from furiosa.client._async.io import on_trio

if TYPE_CHECKING:
    from furiosa.client import Connection


class Watch:
    """Waits for the same descriptors and for news of a lease, again and again; one task at a time."""

    def __new__(cls, *_: object) -> "Watch":
        return super().__new__(OnTrio if on_trio() else OnAsyncio)

    def __init__(
        self, connection: "Connection", lease_id: str, descriptors: Sequence[int], bell: int
    ) -> None:
        self._connection = connection
        self._lease_id = lease_id
        self._descriptors = (*descriptors, bell)

    async def wait(self, look: Callable[[], bool], spin_ns: int) -> None:
        """Calls `look` when one of the descriptors is readable or something has arrived, and returns
        when that says so; `spin_ns` is for the other twin. Raises: BrokerUnavailable.
        """
        raise NotImplementedError

    def close(self) -> None:
        """From any thread, since the garbage collector calls it, too."""
        raise NotImplementedError

    async def _hear(self, look: Callable[[], bool]) -> None:
        """When there are news already: for these and the descriptors, once."""
        await self._connection.wait(self._descriptors, self._lease_id)
        look()


class OnAsyncio(Watch):
    """The event loop keeps the descriptors from one wait to the next, which costs less than half of telling
    it each time; it drops them when one becomes readable and nobody waits.
    """

    def __init__(
        self, connection: "Connection", lease_id: str, descriptors: Sequence[int], bell: int
    ) -> None:
        super().__init__(connection, lease_id, descriptors, bell)
        self._kept: tuple[int, ...] = ()  # by `_loop`; duplicates, ours to close
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sleeper: asyncio.Future[None] | None = None
        self._look: Callable[[], bool] | None = None  # the sleeper's
        self._unheard = False

    async def wait(self, look: Callable[[], bool], spin_ns: int) -> None:
        if not self._connection.is_quiet(self._lease_id):
            await self._hear(look)
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


class OnTrio(Watch):
    """An epoll stands for all the descriptors, since a task of trio waits for one at a time."""

    def __init__(
        self, connection: "Connection", lease_id: str, descriptors: Sequence[int], bell: int
    ) -> None:
        super().__init__(connection, lease_id, descriptors, bell)
        self._epoll: select.epoll | None = None
        self._socket = (
            -1
        )  # a duplicate: when a connection is closed its number is gone from the epoll

    async def wait(self, look: Callable[[], bool], spin_ns: int) -> None:
        if not self._connection.is_quiet(self._lease_id):
            await self._hear(look)
            return
        epoll = self._epoll or self._opened()
        awake = False
        while not awake:
            await anyio.wait_readable(epoll.fileno())
            awake = look()

    def close(self) -> None:
        epoll, self._epoll = self._epoll, None
        if epoll is not None:
            epoll.close()
            os.close(self._socket)

    def _opened(self) -> select.epoll:
        self._epoll = epoll = select.epoll()
        self._socket = os.dup(self._connection.fileno())
        for fd in (*self._descriptors, self._socket):
            epoll.register(fd, select.EPOLLIN)
        return epoll
