"""The sensors of one hwmon folder. Source: devices reference 9.

A kind is read whole or not at all: one sensor that does not make sense fails all of its kind.
"""

import os
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from furiosa.broker.devices import tree
from furiosa.broker.devices.tree import DeviceFault

_INTEGER = re.compile(r"-?[0-9]{1,10}")
_LIMIT: Final = 2**31  # values are signed 32-bit


class Kind(Enum):
    """File name prefix and the item that holds the value."""

    CURRENT = ("curr", "input")  # mA
    VOLTAGE = ("in", "input")  # mV
    POWER = ("power", "average")  # µW
    TEMPERATURE = ("temp", "input")  # m°C


@dataclass(frozen=True, slots=True)
class Reading:
    label: str
    value: int


def read(folder: Path, kind: Kind) -> tuple[Reading, ...]:
    """Every sensor of a kind, by number; () when there is none.

    Raises: DeviceFault, in the words of the reference's hwmon causes.
    """
    try:
        return _read(folder, kind)
    except OSError as exc:
        raise DeviceFault(f"IoError: {exc}") from exc


def _read(folder: Path, kind: Kind) -> tuple[Reading, ...]:
    prefix, item = kind.value
    pattern = re.compile(rf"{prefix}([0-9]{{1,9}})_[a-z_]+")
    names = set(os.listdir(folder))
    matches = map(pattern.fullmatch, names)
    readings = []
    for number in sorted({int(match[1]) for match in matches if match is not None}):
        sensor = f"{prefix}{number}"
        has_label = f"{sensor}_label" in names
        label = tree.read_text(folder / f"{sensor}_label") if has_label else str(number)
        if f"{sensor}_{item}" not in names:
            raise DeviceFault(f"Item Not found: {sensor} {item}")
        text = tree.read_text(folder / f"{sensor}_{item}")
        if _INTEGER.fullmatch(text) is None or not -_LIMIT <= int(text) < _LIMIT:
            raise DeviceFault(f"Unexpected value format: {sensor} {text[:64]}")
        readings.append(Reading(label, int(text)))
    return tuple(readings)
