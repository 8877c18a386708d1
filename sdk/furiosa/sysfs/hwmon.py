"""The sensors of one card: which there are, and the value of one. Source: devices reference 9.

Finding them reads two files a sensor; their names and labels stay, so a value later costs one.
"""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Final

from furiosa.sysfs import tree
from furiosa.sysfs.tree import DeviceFault

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
class Sensor:
    """Names of the files of one; without a label its number is shown."""

    number: int
    value: str
    label: str | None


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
    return tuple(
        Channel(
            str(sensor.number) if sensor.label is None else tree.read_text(folder / sensor.label),
            folder / sensor.value,
        )
        for sensor in sensors(os.listdir(folder), kind)
    )


def sensors(names: Iterable[str], kind: Kind) -> Iterator[Sensor]:
    """Those of a kind in a folder of such files, by number. Raises: DeviceFault, as `channels`."""
    prefix, item = kind.value
    pattern = re.compile(rf"{prefix}([0-9]{{1,9}})_[a-z_]+")
    present = set(names)
    matches = map(pattern.fullmatch, present)
    for number in sorted({int(match[1]) for match in matches if match is not None}):
        sensor = f"{prefix}{number}"
        if f"{sensor}_{item}" not in present:
            raise DeviceFault(f"Item Not found: {sensor} {item}")
        label = f"{sensor}_label"
        yield Sensor(number, f"{sensor}_{item}", label if label in present else None)


def value(path: Path) -> int:
    """Raises: OSError; DeviceFault, as `number`."""
    return tree.parsed(path, partial(number, path.name))


def number(name: str, text: str) -> int:
    """The content of a value's file. Raises: DeviceFault for anything but a signed 32-bit integer."""
    if _INTEGER.fullmatch(text) is None or not -_LIMIT <= int(text) < _LIMIT:
        raise DeviceFault(f"Unexpected value format: {name.partition('_')[0]} {text[:64]}")
    return int(text)
