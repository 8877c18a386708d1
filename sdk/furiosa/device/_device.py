"""A card, its sensors and its counters. Source: device API reference 4 to 6.

What a card is stays as it was when it was listed; what changes is read at each call. Methods that may take
a moment longer are coroutines, and plain in the classes for blocking programs.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

from furiosa.common.views import Architecture, CardPart
from furiosa.device._core.files import DeviceFile
from furiosa.device._core.values import (
    Arch,
    CoreStatus,
    NeClockFrequency,
    PerformanceCounter,
    SensorValue,
)
from furiosa.device._source import Source, Statuses
from furiosa.device._threads import in_thread
from furiosa.device.errors import DeviceNotFound, HwmonError, of_text
from furiosa.sysfs import BadCounters, Card, CounterReading, DeviceFault, Kind, values

_T = TypeVar("_T")
_ARCHITECTURES: Mapping[Architecture, Arch] = {Architecture.WARBOY: Arch.Warboy}


class Device:
    """A card. Methods raise DeviceError, which is a RuntimeError."""

    def __init__(self, source: Source, card: Card) -> None:
        """For `list_devices`."""
        self._source = source
        self._card = card

    def name(self) -> str:
        """E.g. "npu0"."""
        return f"npu{self._card.index}"

    def device_index(self) -> int:
        return self._card.index

    def devfile_index(self) -> int:
        """As `device_index`; the later name."""
        return self._card.index

    def arch(self) -> Arch:
        return _ARCHITECTURES[self._card.architecture]

    def alive(self) -> bool:
        return values_of(lambda: values.alive(self._text("alive")))

    def atr_error(self) -> dict[str, int]:
        """How often each kind of error has happened."""
        return dict(values.errors(self._text("atr_error")))

    def busname(self) -> str:
        """On the PCI bus, e.g. "0000:3b:00.0"."""
        return self._card.pci_bdf

    def pci_dev(self) -> str:
        """Major and minor number of the management device, e.g. "492:0"."""
        return self._card.pci_dev

    def device_sn(self) -> str:
        return self._card.serial_number

    def device_uuid(self) -> str:
        return self._card.uuid

    def firmware_version(self) -> str:
        """E.g. "1.7.3, 0a1b2c3"."""
        return self._text("fw_version")

    def driver_version(self) -> str:
        """E.g. "1.9.2, 3d4e5f6"."""
        return self._text("version")

    def heartbeat(self) -> int:
        """For how many seconds the card has been up."""
        return values_of(lambda: values.heartbeat(self._text("heartbeat")))

    def clock_frequency(self) -> list[NeClockFrequency]:
        found = values.clocks(self._text("ne_clk_freq_info"))
        return [NeClockFrequency(clock.name, clock.unit, clock.value) for clock in found]

    def numa_node(self) -> int:
        """-1: not known."""
        return self._card.numa_node

    def core_num(self) -> int:
        return len(self._card.cores)

    def cores(self) -> list[int]:
        return list(self._card.cores)

    def dev_files(self) -> list[DeviceFile]:
        """The whole card first, then narrower ones, then those of lower cores."""
        return [DeviceFile(name, self._source.path(name)) for name in self._card.device_files]

    def performance_counters(self) -> list[tuple[DeviceFile, PerformanceCounter]]:
        """Of the files whose counters can be read, which on hardware are those in use."""
        texts = self._source.texts(self._card, CardPart.COUNTERS)
        found = []
        for file in self.dev_files():
            text = texts.files.get(file.filename())
            if text is not None:
                try:
                    reading = CounterReading.parse(text, texts.at_ns)
                except BadCounters:
                    continue
                found.append((file, PerformanceCounter(reading)))
        return found

    async def get_status_core(self, core: int) -> CoreStatus:
        return await in_thread(self._status, core)

    async def get_status_all(self) -> dict[int, CoreStatus]:
        return await in_thread(self._statuses)

    def get_hwmon_fetcher(self) -> "Fetcher":
        return Fetcher(self._source, self._card)

    def __repr__(self) -> str:
        return self.name()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Device):
            return NotImplemented
        return (self._card.index, self._card.uuid) == (other._card.index, other._card.uuid)

    def __hash__(self) -> int:
        return hash((self._card.index, self._card.uuid))

    def _text(self, name: str) -> str:
        texts = self._source.texts(self._card, CardPart.CARD)
        if name in texts.files:
            return texts.files[name]
        raise of_text(texts.failures[name])

    def _status(self, core: int) -> CoreStatus:
        if core not in self._card.cores:
            raise DeviceNotFound(f"Device npu{self._card.index}pe{core} not found")
        return self._source.status(self._card, core)

    def _statuses(self) -> dict[int, CoreStatus]:
        found: Statuses = self._source.statuses(self._card)
        return dict(found)


class DeviceSync(Device):
    """A card, for blocking programs."""

    def get_status_core(self, core: int) -> CoreStatus:  # type: ignore[override]  # as published
        return self._status(core)

    def get_status_all(self) -> dict[int, CoreStatus]:  # type: ignore[override]
        return self._statuses()

    def get_hwmon_fetcher(self) -> "FetcherSync":
        return FetcherSync(self._source, self._card)


class Fetcher:
    """Reads the sensors of a card, by number. Raises: HwmonError."""

    def __init__(self, source: Source, card: Card) -> None:
        """For `Device.get_hwmon_fetcher`."""
        self._source = source
        self._card = card

    async def read_currents(self) -> list[SensorValue]:
        """In mA."""
        return await in_thread(self._values, Kind.CURRENT)

    async def read_voltages(self) -> list[SensorValue]:
        """In mV."""
        return await in_thread(self._values, Kind.VOLTAGE)

    async def read_powers_average(self) -> list[SensorValue]:
        """In µW."""
        return await in_thread(self._values, Kind.POWER)

    async def read_temperatures(self) -> list[SensorValue]:
        """In m°C."""
        return await in_thread(self._values, Kind.TEMPERATURE)

    def _values(self, kind: Kind) -> list[SensorValue]:
        texts = self._source.texts(self._card, CardPart.SENSORS)
        prefix = f"HwmonError: [npu{self._card.index}] "
        failed = sorted(name for name in texts.failures if name.startswith(kind.value[0]))
        if failed:
            raise HwmonError(prefix + texts.failures[failed[0]])
        try:
            found = values.sensors(texts.files, kind)
        except DeviceFault as fault:
            raise HwmonError(f"{prefix}{fault}") from None
        return [SensorValue(label, value) for label, value in found]


class FetcherSync(Fetcher):
    """Reads the sensors of a card, for blocking programs."""

    def read_currents(self) -> list[SensorValue]:  # type: ignore[override]  # as published
        return self._values(Kind.CURRENT)

    def read_voltages(self) -> list[SensorValue]:  # type: ignore[override]
        return self._values(Kind.VOLTAGE)

    def read_powers_average(self) -> list[SensorValue]:  # type: ignore[override]
        return self._values(Kind.POWER)

    def read_temperatures(self) -> list[SensorValue]:  # type: ignore[override]
        return self._values(Kind.TEMPERATURE)


def values_of(read: Callable[[], _T]) -> _T:
    """Raises: DeviceError for what a text is not."""
    try:
        return read()
    except DeviceFault as fault:
        raise of_text(str(fault)) from None
