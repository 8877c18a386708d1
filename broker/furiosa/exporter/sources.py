"""Where the texts of cards are from: the broker, and without one the device tree of this machine.

Everything here is bounded: neither a broker that hangs nor a driver that does keeps the exporter from saying
what the others say.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from furiosa.client import Connection
from furiosa.client.address import SYSTEM, Address, UnixAddress, from_environment
from furiosa.common.errors import BrokerUnavailable, FuriosaError
from furiosa.common.views import CardPart, CardTexts, DeviceView, Health
from furiosa.sysfs import NOTHING, Card, collect, survey

log = logging.getLogger(__name__)

CLIENT: Final = "furiosa-npu-metrics-exporter"
ROOT_VARIABLE: Final = "FURIOSA_DEVICE_ROOT"  # as furiosa.device has it
LOOK_SECONDS: Final = 5.0  # for one source
CARDS_SECONDS: Final = 3.0  # of it, for what a broker's cards say
_AT_ONCE: Final = 3  # inspections; a broker allows 4 of one caller


@dataclass(frozen=True, slots=True)
class Seen:
    """`texts` lacks the parts that could not be read. `is_healthy`: nothing more is known against it."""

    card: Card
    is_healthy: bool
    texts: Mapping[CardPart, CardTexts]


@dataclass(frozen=True, slots=True)
class Look:
    has_broker: bool
    seen: tuple[Seen, ...]


class Unreadable(Exception):
    """The source does not answer; the text says why."""


class _Source(Protocol):
    async def look(self, parts: Sequence[CardPart]) -> tuple[Seen, ...]:
        """Every card, by index, and these parts of what it says. Raises: Unreadable, within LOOK_SECONDS."""
        ...


class Sources:
    """The broker first; when it is away, cards that this machine has. What it cannot see has no metrics."""

    def __init__(self, broker: "BrokerSource | None", tree: "TreeSource | None") -> None:
        self._broker = broker
        self._tree = tree
        self._complaints: dict[object, str] = {}

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Sources":
        """FURIOSA_DEVICE_ROOT: that tree and no broker. FURIOSA_BROKER: that broker instead of the system's;
        one elsewhere has other cards than this machine. Raises: BadArgument.
        """
        root = environ.get(ROOT_VARIABLE)
        if root:
            return cls(None, TreeSource(Path(root)))
        address = from_environment(environ) or SYSTEM
        tree = TreeSource(Path("/")) if isinstance(address, UnixAddress) else None
        return cls(BrokerSource(address), tree)

    async def look(self, parts: Sequence[CardPart]) -> Look:
        if self._broker is not None:
            found = await self._tried(self._broker, parts)
            if found is not None:
                return Look(True, found)
        if self._tree is not None:
            return Look(False, await self._tried(self._tree, parts) or ())
        return Look(False, ())

    async def close(self) -> None:
        if self._broker is not None:
            await self._broker.close()

    async def _tried(self, source: _Source, parts: Sequence[CardPart]) -> tuple[Seen, ...] | None:
        try:
            found = await source.look(parts)
        except Unreadable as exc:
            if self._complaints.get(source) != str(exc):
                self._complaints[source] = str(exc)
                log.warning("%s", exc)
            return None
        if self._complaints.pop(source, None):
            log.info("%s answers again", source)
        return found


class BrokerSource:
    """One connection at a time, made again when it has ended."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._connection: Connection | None = None

    def __str__(self) -> str:
        return f"the broker at {self._address}"

    async def look(self, parts: Sequence[CardPart]) -> tuple[Seen, ...]:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                if self._connection is None:
                    self._connection = await Connection.open(self._address, client=CLIENT)
                connection = self._connection
                views = await connection.devices()
                texts = await _ask(connection, views, parts)
                return tuple(
                    Seen(_card(view), view.health is Health.ALIVE, texts.get(view.index, {}))
                    for view in views
                )
        except FuriosaError as exc:
            await self.close()
            raise Unreadable(str(exc)) from None
        except TimeoutError:
            await self.close()
            raise Unreadable(f"{self}: no answer within {LOOK_SECONDS:g} s") from None

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


async def _ask(
    connection: Connection, views: Sequence[DeviceView], parts: Sequence[CardPart]
) -> Mapping[int, Mapping[CardPart, CardTexts]]:
    """By index of the card; what has not come within CARDS_SECONDS is left out."""
    found: dict[int, dict[CardPart, CardTexts]] = {}
    # those that may hang keep no other from being asked
    rest = iter(sorted(views, key=lambda view: view.health is not Health.ALIVE))

    async def ask() -> None:
        for view in rest:
            for part in parts:
                try:
                    texts = await connection.inspect(view.index, part)
                except BrokerUnavailable:
                    raise
                except FuriosaError as exc:
                    log.debug("npu%d: %s", view.index, exc)
                else:
                    found.setdefault(view.index, {})[part] = texts

    try:
        async with asyncio.timeout(CARDS_SECONDS):
            await asyncio.gather(*(ask() for _ in range(_AT_ONCE)))
    except TimeoutError:
        log.debug("not every card has answered within %g s", CARDS_SECONDS)
    return found


def _card(view: DeviceView) -> Card:
    return Card(
        index=view.index,
        architecture=view.architecture,
        origin=view.origin,
        uuid=view.uuid,
        serial_number=view.serial_number,
        firmware_version=view.firmware_version,
        driver_version=view.driver_version,
        pci_bdf=view.pci_bdf,
        pci_dev=view.pci_dev,
        numa_node=view.numa_node,
        device_files=view.device_files,
        cores=tuple(core.core for core in view.cores),
        incarnation=0,
    )


class TreeSource:
    """The device tree under `root`. A driver may let a reader hang for ever: then one thread does, and no
    other is started.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._survey = NOTHING
        self._reading: asyncio.Future[tuple[Seen, ...]] | None = None

    def __str__(self) -> str:
        return f"the device tree {self._root}"

    async def look(self, parts: Sequence[CardPart]) -> tuple[Seen, ...]:
        if self._reading is not None and not self._reading.done():
            raise Unreadable(f"{self} does not answer: a driver hangs")
        self._reading = _in_daemon_thread(lambda: self._look(parts))
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                return await asyncio.shield(self._reading)
        except TimeoutError:
            raise Unreadable(f"{self} does not answer: a driver hangs") from None
        except OSError as exc:
            raise Unreadable(f"{self} cannot be read: {exc}") from None

    def _look(self, parts: Sequence[CardPart]) -> tuple[Seen, ...]:
        self._survey = survey(self._root, self._survey)
        return tuple(
            Seen(card, True, {part: collect(self._root, card, part) for part in parts})
            for card in self._survey.cards
        )


def _in_daemon_thread(
    work: Callable[[], tuple[Seen, ...]],
) -> "asyncio.Future[tuple[Seen, ...]]":
    """Unlike threads of an executor it keeps nobody from exiting."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[tuple[Seen, ...]] = loop.create_future()

    def tell(set_: Callable[[Any], None], value: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(lambda: None if done.cancelled() else set_(value))

    def run() -> None:
        try:
            result = work()
        except Exception as exc:  # whoever waits has it
            tell(done.set_exception, exc)
        else:
            tell(done.set_result, result)

    threading.Thread(target=run, name="device-tree", daemon=True).start()
    return done
