"""Live values of a card: does it answer, how warm is it, what does it draw, what has it counted.

What cannot be read is missing, not an error: a broken sensor must not take the card away. The reason is
logged once, and again only after the value has been there in between.
Source: devices reference 7 (alive, atr_error), 8 (counters), 9 (hwmon).
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from furiosa.common.names import DeviceFile
from furiosa.sysfs import hwmon, tree, values
from furiosa.sysfs.counters import BadCounters, CounterReading
from furiosa.sysfs.discovery import Card, read_alive
from furiosa.sysfs.tree import DeviceFault

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_TEMPERATURE: Final = ("Peak", "Average")  # the first that is there; else the warmest of all
_POWER: Final = "PCI Total RMS PWR"

# What is missing now and has been logged. Sensors are read every second by a process that lives for
# months, so this is kept for the process, by path and kind.
_missing: set[tuple[Path, str]] = set()


@dataclass(frozen=True, slots=True)
class Sensors:
    alive: bool | None  # None: the card does not say
    temperature_millicelsius: int | None
    power_microwatts: int | None
    errors: Mapping[str, int] = field(default_factory=dict)  # by key; empty: the card does not say


@dataclass(frozen=True, slots=True)
class _Places:
    """Where a card's values are; `card` is the very one they were looked for."""

    card: Card
    temperature: tuple[Path, ...] = ()
    power: Path | None = None


class Gauges:
    """Reads the sensors of cards under `root`, and remembers where they are.

    Only what is shown is read, which is three or four files a card: a read may ask the card's firmware
    and take a millisecond. Another sensor that is broken does no harm.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._places: dict[int, _Places] = {}

    def read(self, card: Card) -> Sensors:
        """Never raises for what the tree holds. Raises: OSError when the broker is short of something."""
        folder = tree.pci(self._root, card.pci_bdf)
        places = self._places_of(card, folder)
        where = f"HwmonError: [npu{card.index}] "
        return Sensors(
            alive=_or_missing(
                lambda: read_alive(self._root, card.index),
                f"[npu{card.index}] ",
                (tree.management(self._root, card.index), "alive"),
            ),
            temperature_millicelsius=self._value(
                card,
                lambda: max(map(hwmon.value, places.temperature), default=None),
                where,
                (folder, "temperature"),
            ),
            power_microwatts=self._value(
                card, lambda: _power(places.power), where, (folder, "power")
            ),
            errors=_or_missing(
                lambda: values.errors(
                    tree.read_text(tree.management(self._root, card.index) / "atr_error")
                ),
                f"[npu{card.index}] ",
                (tree.management(self._root, card.index), "atr_error"),
            )
            or {},
        )

    def _places_of(self, card: Card, folder: Path) -> _Places:
        places = self._places.get(card.index)
        if places is None or places.card is not card:
            found = _or_missing(
                lambda: _locate(self._root, card),
                f"HwmonError: [npu{card.index}] ",
                (folder, "hwmon"),
            )
            if (
                found is None
            ):  # look again next time: drivers of sensors may come later than the card
                return _Places(card)
            self._places[card.index] = places = found
        return places

    def _value(
        self, card: Card, read: Callable[[], int | None], prefix: str, key: tuple[Path, str]
    ) -> int | None:
        value = _or_missing(read, prefix, key)
        if key in _missing:
            self._places.pop(card.index, None)
        return value


def read_sensors(root: Path, card: Card) -> Sensors:
    """One look, when nobody has looked before. Raises: as `Gauges.read`."""
    return Gauges(root).read(card)


def read_counters(
    root: Path, file: DeviceFile, *, clock_ns: Callable[[], int] = time.monotonic_ns
) -> CounterReading | None:
    """The counters of a device file; None while it is not in use or when they make no sense."""
    path = tree.registers(root, file)

    def read() -> CounterReading | None:
        try:
            text = tree.read_text(path)
        except (PermissionError, FileNotFoundError):  # hardware refuses, an emulated card has none
            return None
        return CounterReading.parse(text, clock_ns())

    return _or_missing(read, f"[{file}] ", (path, "perf_regs"))


def _locate(root: Path, card: Card) -> _Places | None:
    """None: the card has no sensors now."""
    folder = hwmon.folder(root, card.pci_bdf)
    if folder is None:
        return None
    warm = hwmon.channels(folder, hwmon.Kind.TEMPERATURE)
    named = {channel.label: channel.path for channel in reversed(warm)}
    best = next((named[label] for label in _TEMPERATURE if label in named), None)
    power = {channel.label: channel.path for channel in hwmon.channels(folder, hwmon.Kind.POWER)}
    return _Places(
        card,
        temperature=tuple(channel.path for channel in warm) if best is None else (best,),
        power=power.get(_POWER),
    )


def _power(path: Path | None) -> int | None:
    # an idle card's converter may read just below zero
    return None if path is None else max(0, hwmon.value(path))


def _or_missing(read: Callable[[], _T], prefix: str, key: tuple[Path, str]) -> _T | None:
    try:
        value = read()
    except (OSError, DeviceFault, BadCounters) as exc:
        if isinstance(exc, OSError) and tree.is_ours(exc):
            raise
        if key not in _missing:
            _missing.add(key)
            cause = DeviceFault.of(exc) if isinstance(exc, OSError) else exc
            _log.warning("%s%s", prefix, cause)
        return None
    _missing.discard(key)
    return value
