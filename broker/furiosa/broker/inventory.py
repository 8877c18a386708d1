"""The cards of this node, with their sensors and with who uses which core: what `Devices` shows."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

from furiosa.broker.devices import Card, read_sensors
from furiosa.common.names import DeviceFile
from furiosa.common.views import (
    CoreState,
    CoreView,
    DeviceView,
    Health,
    LeaseView,
    Origin,
    ProcessView,
)


class Inventory:
    """`root` is where the device tree stands: `/`, or the folder of the virtual platform."""

    def __init__(self, root: Path, cards: tuple[Card, ...]) -> None:
        self._root = root
        self._cards = cards

    @property
    def files(self) -> tuple[DeviceFile, ...]:
        return tuple(file for card in self._cards for file in card.device_files)

    @property
    def origin(self) -> Origin:
        return self._cards[0].origin if self._cards else Origin.HARDWARE

    async def devices(self, leases: Iterable[LeaseView]) -> tuple[DeviceView, ...]:
        """Sensors are read now, in a thread: those of a real card take milliseconds."""
        held = [file for lease in leases for file in lease.device_files]
        return await asyncio.to_thread(self._read, held)

    def _read(self, held: list[DeviceFile]) -> tuple[DeviceView, ...]:
        return tuple(self._view(card, held) for card in self._cards)

    def _view(self, card: Card, held: list[DeviceFile]) -> DeviceView:
        sensors = read_sensors(self._root, card)
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
            cores=tuple(_core(card.index, core, held, sensors.alive) for core in card.cores),
            device_files=card.device_files,
        )


def _core(npu: int, core: int, held: Iterable[DeviceFile], alive: bool) -> CoreView:
    for file in held:
        if file.npu == npu and core in file.cores:
            return CoreView(core, CoreState.OCCUPIED, file)
    return CoreView(core, CoreState.AVAILABLE if alive else CoreState.UNAVAILABLE)


def processes(leases: Iterable[LeaseView]) -> tuple[ProcessView, ...]:
    """One entry for each leased file, by its name as text."""
    rows = (
        ProcessView(file, lease.owner.pid, lease.owner.command_line, lease.id)
        for lease in leases
        for file in lease.device_files
    )
    return tuple(sorted(rows, key=lambda row: str(row.device_file)))
