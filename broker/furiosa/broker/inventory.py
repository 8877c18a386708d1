"""The cards of this node, with their sensors and with who uses which core: what `Devices` shows."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from furiosa.broker.devices import Foreign, Sensors, read_sensors
from furiosa.common.names import DeviceFile
from furiosa.common.views import (
    Availability,
    CoreState,
    CoreView,
    DeviceView,
    Health,
    LeaseView,
    Origin,
    ProcessView,
)
from furiosa.sysfs import Card

AvailabilityOf = Callable[[int], tuple[Availability, str]]  # of a card: with the reason, or ""

_UNREADABLE: Final = Sensors(None, None, None)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the last look found: replaced whole, so no reader sees half of one."""

    cards: tuple[Card, ...]
    sensors: Mapping[int, Sensors] | None = None  # None: nobody has looked yet
    foreign: Foreign = field(default_factory=dict)


class Inventory:
    """`root` is where the device tree stands: `/`, or the folder of the virtual platform."""

    def __init__(
        self,
        root: Path,
        cards: tuple[Card, ...],
        availability: AvailabilityOf,
        aside: Callable[[], Iterable[DeviceFile]] = tuple,
    ) -> None:
        """`aside()`: files that are kept for somebody, whether he has them or not."""
        self._root = root
        self._availability = availability
        self._aside = aside
        self._seen = _Seen(cards)

    @property
    def cards(self) -> tuple[Card, ...]:
        return self._seen.cards

    @property
    def files(self) -> tuple[DeviceFile, ...]:
        return tuple(file for card in self.cards for file in card.device_files)

    @property
    def origin(self) -> Origin:
        return self.cards[0].origin if self.cards else Origin.HARDWARE

    @property
    def foreign(self) -> Foreign:
        """Files that are open behind the broker's back, and who has them."""
        return self._seen.foreign

    @property
    def errors(self) -> Mapping[tuple[int, str], int]:
        """What cards had counted at the last look, by card and kind."""
        return {
            (npu, kind): count
            for npu, sensors in (self._seen.sensors or {}).items()
            for kind, count in sensors.errors.items()
        }

    def update(
        self, cards: tuple[Card, ...], sensors: Mapping[int, Sensors], foreign: Foreign
    ) -> None:
        """What is there now; `sensors` by card, those that could not be read left out."""
        self._seen = _Seen(cards, sensors, foreign)

    async def devices(self, leases: Iterable[LeaseView]) -> tuple[DeviceView, ...]:
        """Sensors are as old as the last look; before the first one they are read now, in a thread."""
        held = [file for lease in leases for file in lease.device_files]
        seen = self._seen
        sensors = seen.sensors
        if sensors is None:
            sensors = await asyncio.to_thread(_read, self._root, seen.cards)
        occupied = (*held, *seen.foreign, *self._aside())
        return views(seen.cards, sensors, occupied, self._availability)


def views(
    cards: Iterable[Card],
    sensors: Mapping[int, Sensors],
    held: Iterable[DeviceFile],
    availability: AvailabilityOf = lambda _: (Availability.AVAILABLE, ""),
) -> tuple[DeviceView, ...]:
    """Of cards of which `held` files are open. `sensors` by card, as far as they can be read. PURE."""
    by_card: dict[int, list[DeviceFile]] = {}
    for file in held:
        by_card.setdefault(file.npu, []).append(file)
    return tuple(
        _view(
            card,
            sensors.get(card.index, _UNREADABLE),
            by_card.get(card.index, []),
            *availability(card.index),
        )
        for card in cards
    )


def _view(
    card: Card,
    sensors: Sensors,
    held: list[DeviceFile],
    availability: Availability,
    reason: str,
) -> DeviceView:
    usable = sensors.alive is True and availability is Availability.AVAILABLE
    return DeviceView(
        index=card.index,
        architecture=card.architecture,
        origin=card.origin,
        health=Health.ALIVE if sensors.alive else Health.DEAD,
        uuid=card.uuid,
        serial_number=card.serial_number,
        firmware_version=card.firmware_version,
        driver_version=card.driver_version,
        pci_bdf=card.pci_bdf,
        pci_dev=card.pci_dev,
        numa_node=card.numa_node,
        temperature_millicelsius=sensors.temperature_millicelsius,
        power_microwatts=sensors.power_microwatts,
        cores=tuple(_core(core, held, usable) for core in card.cores),
        device_files=card.device_files,
        availability=availability,
        reason=reason,
    )


def _read(root: Path, cards: tuple[Card, ...]) -> Mapping[int, Sensors]:
    return {card.index: read_sensors(root, card) for card in cards}


def _core(core: int, held: Iterable[DeviceFile], usable: bool) -> CoreView:
    for file in held:
        if core in file.cores:
            return CoreView(core, CoreState.OCCUPIED, file)
    return CoreView(core, CoreState.AVAILABLE if usable else CoreState.UNAVAILABLE)


def processes(leases: Iterable[LeaseView], foreign: Foreign) -> tuple[ProcessView, ...]:
    """One row for each leased file, and one for each process that holds a file without a lease.

    By name of the file as text, then pid.
    """
    rows = [
        ProcessView(file, lease.owner.pid, lease.owner.command_line, lease.id, lease.owner.remote)
        for lease in leases
        for file in lease.device_files
    ]
    rows += [
        ProcessView(file, holder.pid, holder.command_line, "")
        for file, found in foreign.items()
        for holder in found
    ]
    return tuple(sorted(rows, key=lambda row: (str(row.device_file), row.pid)))
