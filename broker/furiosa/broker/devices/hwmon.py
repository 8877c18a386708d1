"""The sensors of one card: which there are, and the value of one. Source: devices reference 9.

Finding them reads two files a sensor; their names and labels stay, so a value later costs one.
"""

import os
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from furiosa.broker.devices import tree
from furiosa.broker.devices.tree import DeviceFault

_FOLDER = re.compile(r"hwmon([0-9]{1,9})")
_INTEGER = re.compile(r"-?[0-9]{1,10}")
_LIMIT: Final = 2**31  # values are signed 32-bit


class Kind(Enum):
    """File name prefix and the item that holds the value."""

    CURRENT = ("curr", "input")  # mA
    VOLTAGE = ("in", "input")  # mV
    POWER = ("power", "average")  # µW
    TEMPERATURE = ("temp", "input")  # m°C


@dataclass(frozen=True, slots=True)
class Channel:
    """One sensor; `path` is where its value is read."""

    label: str
    path: Path


def folder(root: Path, bdf: str) -> Path | None:
    """The sensors' folder of the card at `bdf`: the lowest number counts; None: it has none now."""
    above = tree.pci(root, bdf) / "hwmon"
    try:
        names = os.listdir(above)
    except FileNotFoundError:
        return None
    numbers = [int(match[1]) for match in map(_FOLDER.fullmatch, names) if match is not None]
    return above / f"hwmon{min(numbers)}" if numbers else None


def channels(folder: Path, kind: Kind) -> tuple[Channel, ...]:
    """Every sensor of a kind, by number; () when there is none.

    Raises: OSError; DeviceFault for a sensor without its value.
    """
    prefix, item = kind.value
    pattern = re.compile(rf"{prefix}([0-9]{{1,9}})_[a-z_]+")
    names = set(os.listdir(folder))
    matches = map(pattern.fullmatch, names)
    found = []
    for number in sorted({int(match[1]) for match in matches if match is not None}):
        sensor = f"{prefix}{number}"
        if f"{sensor}_{item}" not in names:
            raise DeviceFault(f"Item Not found: {sensor} {item}")
        has_label = f"{sensor}_label" in names
        label = tree.read_text(folder / f"{sensor}_label") if has_label else str(number)
        found.append(Channel(label, folder / f"{sensor}_{item}"))
    return tuple(found)


def value(path: Path) -> int:
    """Raises: OSError; DeviceFault for anything but a signed 32-bit integer."""
    text = tree.read_text(path)
    if _INTEGER.fullmatch(text) is None or not -_LIMIT <= int(text) < _LIMIT:
        raise DeviceFault(
            f"Unexpected value format: {path.name.partition('_')[0]} {text[:64]} ({path})"
        )
    return int(text)
