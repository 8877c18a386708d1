"""Texts of a card's files to values. PURE. Source: devices reference 7 (files), 9 (sensors)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from furiosa.sysfs import hwmon
from furiosa.sysfs.tree import DeviceFault

_ERROR = re.compile(r"([A-Za-z][A-Za-z ]{0,63}): *([0-9]{1,20})", re.ASCII)
_CLOCK = re.compile(r"([A-Za-z][A-Za-z ]{0,63}) \(([A-Za-z/]{1,15})\): *([0-9]{1,20})", re.ASCII)
_MOST: Final = 32  # lines of either; 9 and 4 are published


@dataclass(frozen=True, slots=True)
class Clock:
    name: str
    unit: str  # e.g. MHz, MT/s
    value: int


def alive(text: str) -> bool:
    """Raises: DeviceFault for anything but 0 and 1."""
    if text not in ("0", "1"):
        raise DeviceFault(f"Unexpected value: Bad alive value: {text[:64]} (only 0 or 1 expected)")
    return text == "1"


def heartbeat(text: str) -> int:
    """In seconds. Raises: DeviceFault."""
    if not re.fullmatch(r"[0-9]{1,20}", text, re.ASCII):
        raise DeviceFault(f"Unexpected value: Bad heartbeat value: {text[:64]}")
    return int(text)


def errors(text: str) -> Mapping[str, int]:
    """A key is a line's name in lower case, with _ for blanks. Lines of another form are skipped."""
    matches = [match for line in text.splitlines() if (match := _ERROR.fullmatch(line.strip()))]
    return {match[1].lower().replace(" ", "_"): int(match[2]) for match in matches[:_MOST]}


def clocks(text: str) -> tuple[Clock, ...]:
    """In the order of the lines. Lines of another form are skipped."""
    matches = [match for line in text.splitlines() if (match := _CLOCK.fullmatch(line.strip()))]
    return tuple(Clock(match[1], match[2], int(match[3])) for match in matches[:_MOST])


def sensors(files: Mapping[str, str], kind: hwmon.Kind) -> tuple[tuple[str, int], ...]:
    """Label and value of each sensor of a kind, by number; `files` are those of the sensors' folder.

    Raises: DeviceFault for one without its value, or with another than an integer.
    """
    return tuple(
        (
            str(sensor.number) if sensor.label is None else files[sensor.label],
            hwmon.number(sensor.value, files[sensor.value]),
        )
        for sensor in hwmon.sensors(files, kind)
    )
