"""Live values of a card: does it answer, how warm is it, what does it draw, what has it counted.

What cannot be read is missing, not an error: a broken sensor must not take the card away. The reason is
logged once, and again only after the value has been there in between.
Source: devices reference 7 (alive), 8 (counters), 9 (hwmon).
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from furiosa.broker.devices import hwmon, tree
from furiosa.broker.devices.counters import BadCounters, CounterReading
from furiosa.broker.devices.discovery import Card, read_alive
from furiosa.broker.devices.tree import DeviceFault
from furiosa.common.names import DeviceFile

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_TEMPERATURE: Final = ("Peak", "Average")  # the first that is there; else the warmest of all
_POWER: Final = "PCI Total RMS PWR"

# What is missing now and has been logged. Sensors are read every second by a process that lives for
# months, so this is kept for the process, by path and kind.
_missing: set[tuple[Path, str]] = set()


@dataclass(frozen=True, slots=True)
class Sensors:
    alive: bool
    temperature_millicelsius: int | None
    power_microwatts: int | None


def read_sensors(root: Path, card: Card) -> Sensors:
    """Never raises for what the tree holds; a card whose `alive` cannot be read is not alive."""
    return Sensors(
        alive=bool(
            _or_missing(
                lambda: read_alive(root, card.index),
                f"[{_name(card)}] ",
                (tree.management(root, card.index), "alive"),
            )
        ),
        temperature_millicelsius=_hwmon(card, hwmon.Kind.TEMPERATURE, _temperature),
        power_microwatts=_hwmon(card, hwmon.Kind.POWER, _power),
    )


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


def _hwmon(
    card: Card, kind: hwmon.Kind, choose: Callable[[tuple[hwmon.Reading, ...]], int | None]
) -> int | None:
    folder = card.hwmon
    if folder is None:
        return None
    return _or_missing(
        lambda: choose(hwmon.read(folder, kind)),
        f"HwmonError: [{_name(card)}] ",
        (folder, kind.name),
    )


def _temperature(readings: tuple[hwmon.Reading, ...]) -> int | None:
    for label in _TEMPERATURE:
        for reading in readings:
            if reading.label == label:
                return reading.value
    return max((reading.value for reading in readings), default=None)


def _power(readings: tuple[hwmon.Reading, ...]) -> int | None:
    for reading in readings:
        if reading.label == _POWER:
            return max(0, reading.value)  # an idle card's converter may read just below zero
    return None


def _or_missing(read: Callable[[], _T], prefix: str, key: tuple[Path, str]) -> _T | None:
    try:
        value = read()
    except (OSError, DeviceFault, BadCounters) as exc:
        if key not in _missing:
            _missing.add(key)
            cause = DeviceFault.of(exc) if isinstance(exc, OSError) else exc
            _log.warning("%s%s", prefix, cause)
        return None
    _missing.discard(key)
    return value


def _name(card: Card) -> str:
    return f"npu{card.index}"
