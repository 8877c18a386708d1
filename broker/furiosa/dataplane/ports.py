"""The table of open ports: one for each session, lease and program that anybody runs."""

import asyncio
import functools
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from furiosa.common.errors import (
    BrokerUnavailable,
    FuriosaError,
    LeaseEnded,
    NoSession,
    WorkerDied,
)
from furiosa.common.views import LeaseEndedNotice, Notice, WorkerDiedNotice
from furiosa.dataplane.broker_link import BrokerLink
from furiosa.dataplane.port import Port

Key = tuple[str, str, int]  # session token, lease, program

# Of one lease. Nobody tells us of an unload, and each port holds a queue of each of its device files, of
# which a worker has 32 for all.
MAX_PORTS: Final = 16
MAX_KNOWN: Final = 4096  # tokens


@dataclass(frozen=True, slots=True)
class _Entry:
    port: Port
    opening: asyncio.Task[None]


class Ports:
    """Takes the socket to the broker. `on_broker_gone` is called once, after every port is closed."""

    def __init__(self, broker: socket.socket, on_broker_gone: Callable[[], None]) -> None:
        self._link = BrokerLink(broker, self._notice, self._broker_gone)
        self._on_broker_gone = on_broker_gone
        self._entries: dict[Key, _Entry] = {}  # the one used last at the end
        self._known: set[str] = set()  # tokens that had a session when it was last asked

    def hello(self, client: str) -> None:
        """Tell the broker that clients can connect."""
        self._link.hello(client)

    async def admit(self, token: str) -> None:
        """Whether there is a session of that token, before anything is read for it.

        Raises: NoSession; BrokerUnavailable.
        """
        if token not in self._known:
            try:
                await self._link.describe(token, "", 0)
            except (NoSession, BrokerUnavailable):
                raise
            except FuriosaError:
                pass  # the session is checked first; a lease without a name there is not
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known.add(token)

    async def get(self, token: str, lease_id: str, program_id: int) -> Port:
        """The open port; opened for the first who asks, and others wait with him.

        Raises: what the broker says of the token, the lease or the program; BrokerUnavailable.
        """
        key = token, lease_id, program_id
        entry = self._entries.get(key)
        if entry is None:
            port = Port(self._link, *key, on_closed=functools.partial(self._forget, key))
            entry = _Entry(port, asyncio.create_task(port.open()))
            entry.opening.add_done_callback(_seen)
            self._make_room(lease_id)
        self._entries.pop(key, None)
        self._entries[key] = entry
        if not entry.opening.done():
            await asyncio.wait([entry.opening])  # whoever gives up leaves it to the others
        try:
            entry.opening.result()
        except NoSession:
            self._known.discard(token)
            raise
        return entry.port

    def close(self) -> None:
        """Runs that wait fail with BrokerUnavailable."""
        gone = BrokerUnavailable("the data plane", "it is shutting down")
        for entry in tuple(self._entries.values()):
            entry.opening.cancel()
            entry.port.close(gone)
        self._link.close()

    def _make_room(self, lease_id: str) -> None:
        """Close the port of the lease that was idle for longest if there are too many."""
        ports = [e.port for e in self._entries.values() if e.port.lease_id == lease_id]
        idle = [port for port in ports if port.is_idle]
        if len(ports) >= MAX_PORTS and idle:
            idle[0].close(BrokerUnavailable("the data plane", "too many programs in turn"))

    def _forget(self, key: Key) -> None:
        self._entries.pop(key, None)

    def _notice(self, notice: Notice) -> None:
        error: FuriosaError
        match notice:
            case LeaseEndedNotice(lease_id, cause):
                error = LeaseEnded(lease_id, cause)
            case WorkerDiedNotice(lease_id, file, cause):
                error = WorkerDied(str(file), cause)
            case _:
                return  # a lease that is only recalled still runs programs
        for entry in tuple(self._entries.values()):
            if entry.port.lease_id == lease_id:
                entry.port.notice(notice, error)

    def _broker_gone(self) -> None:
        self.close()
        self._on_broker_gone()


def _seen(task: "asyncio.Task[None]") -> None:
    if not task.cancelled():
        task.exception()
