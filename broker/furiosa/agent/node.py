"""What the broker says of this node, now: kept up to date, and told to whoever waits for the next."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NoReturn

from furiosa.client import Connection
from furiosa.common.errors import BrokerUnavailable, FuriosaError
from furiosa.common.names import DeviceFile
from furiosa.common.reservations import GrantsView, ReservationView
from furiosa.common.views import DeviceView

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 0.25
# Without its broker a node can give nothing to a new pod. But a broker that is replaced is soon back, and
# pods that are scheduled meanwhile are better off waiting than refused.
AWAY_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class NodeState:
    """`lingering`: reservations, by id, that pods have left while processes of theirs live. `is_away`: the
    broker has been gone for long.
    """

    cards: tuple[DeviceView, ...] = ()
    reservations: tuple[ReservationView, ...] = ()
    lingering: frozenset[str] = frozenset()
    is_away: bool = True


class Node:
    """One connection to the broker at a time, made again when it ends. `run` it.

    `client` names the program in the broker's log. `state` is what is known; `version` grows with it.
    """

    def __init__(self, client: str) -> None:
        self._client = client
        self.state = NodeState()
        self.version = 0
        self._connection: Connection | None = None
        self.grants: GrantsView | None = None  # of the last connection
        self._news = asyncio.Condition()

    async def run(self) -> NoReturn:
        """Until it is cancelled."""
        away_since = time.monotonic()
        refused = ""
        while True:
            try:
                async with await Connection.open(client=self._client) as connection:
                    self.grants = await connection.grants()
                    self._connection = connection
                    log.info("connected to the broker %s", connection.broker_version)
                    refused = ""
                    await self._follow(connection)
            except FuriosaError as exc:
                if self._connection is not None:
                    away_since = time.monotonic()
                if str(exc) != refused:
                    refused = str(exc)
                    log.warning("the broker is away: %s", exc)
            finally:
                self._connection = None
            if not self.state.is_away and time.monotonic() - away_since > AWAY_SECONDS:
                log.error("the broker has been away for %g s", AWAY_SECONDS)
                await self._tell(replace(self.state, is_away=True))
            await asyncio.sleep(RETRY_SECONDS)

    async def reserve(
        self, files: Sequence[DeviceFile], manager: str, *, label: str, name: str = ""
    ) -> tuple[ReservationView, GrantsView]:
        """And where things are. Raises: what the broker says; BrokerUnavailable."""
        connection = self._connected()
        made = await connection.reserve(files, manager=manager, label=label, name=name)
        assert self.grants is not None
        others = (r for r in self.state.reservations if r.id != made.id)
        await self._tell(replace(self.state, reservations=(*others, made)))
        return made, self.grants

    async def reservations(self) -> tuple[ReservationView, ...]:
        """Raises: BrokerUnavailable."""
        return await self._connected().reservations()

    async def cancel(self, reservation: str) -> None:
        """Raises: DeviceBusy, BrokerUnavailable."""
        await self._connected().cancel_reservation(reservation)

    async def set_lingering(self, found: frozenset[str]) -> None:
        if found != self.state.lingering:
            await self._tell(replace(self.state, lingering=found))

    async def touch(self) -> None:
        """What is made of the state may be something else now."""
        async with self._news:
            self.version += 1
            self._news.notify_all()

    async def newer(self, version: int) -> None:
        """Returns when there is news since `version`."""
        async with self._news:
            await self._news.wait_for(lambda: self.version > version)

    async def _follow(self, connection: Connection) -> None:
        async with connection.watch_devices() as watch:
            async for snapshot in watch:
                reservations = await connection.reservations()
                await self._tell(
                    replace(
                        self.state,
                        cards=snapshot.items,
                        reservations=reservations,
                        is_away=False,
                    )
                )

    async def _tell(self, state: NodeState) -> None:
        # sensors and processes come and go without changing what is offered: readers compare
        if state != self.state:
            async with self._news:
                self.state = state
                self.version += 1
                self._news.notify_all()

    def _connected(self) -> Connection:
        if self._connection is None:
            raise BrokerUnavailable("this node", "not connected to it now")
        return self._connection
