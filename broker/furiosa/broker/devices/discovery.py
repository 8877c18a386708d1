"""Which cards there are: one look at <root>/dev and <root>/sys, real or written by the virtual platform.

A card that makes no sense is left out with a warning and hides no other. Live values: `sensors`.
Source: devices reference 2 (architectures), 3 (device files), 7 (sysfs), 9 (hwmon folder).
"""

import logging
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from furiosa.broker.devices import tree
from furiosa.broker.devices.tree import DeviceFault
from furiosa.common.errors import BadDeviceFile
from furiosa.common.names import MAX_ID, DeviceFile
from furiosa.common.views import Architecture, Origin

_log = logging.getLogger(__name__)

_PLATFORM: Final = "FuriosaAI"
_ARCHITECTURES: Final = {"warboyb0": Architecture.WARBOY}  # device_type + soc_rev, lower case
_MANAGEMENT = re.compile(r"npu(0|[1-9][0-9]{0,2})_mgmt")
_HWMON = re.compile(r"hwmon([0-9]{1,9})")
_BDF = re.compile(r"[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]")
_DEV = re.compile(r"[0-9]{1,10}:[0-9]{1,10}")
_NUMA = re.compile(r"-?[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Card:
    """What stays true of a card while its driver is loaded."""

    index: int
    architecture: Architecture
    origin: Origin
    uuid: str
    serial_number: str
    firmware_version: str
    driver_version: str
    pci_bdf: str
    pci_dev: str
    numa_node: int  # -1: not known
    device_files: tuple[DeviceFile, ...]  # whole card first, then narrower ranges, then lower start
    cores: tuple[int, ...]  # ascending
    hwmon: Path | None  # folder of its sensors


def discover(
    root: Path, *, is_device: Callable[[Path], bool] = Path.is_char_device
) -> tuple[Card, ...]:
    """Every card that works under `root`, by index; () where there is no driver.

    `is_device` tells device files from other files with such a name; it is asked on hardware only,
    for on an emulated tree (see `tree.MARKER`) the device files are plain files.
    Raises: OSError when `root`'s folders are there and cannot be listed.
    """
    root = root.absolute()
    origin = Origin.EMULATED if tree.is_emulated(root) else Origin.HARDWARE
    files = list(_device_files(root, Path.is_file if origin is Origin.EMULATED else is_device))
    cards = []
    for index in sorted(_indexes(root)):
        try:
            own = tuple(sorted((f for f in files if f.npu == index), key=lambda f: f.sort_key))
            card = _card(root, index, origin, own)
        except OSError as exc:
            _log.warning("npu%d is left out: %s", index, DeviceFault.of(exc))
        except DeviceFault as exc:
            _log.warning("npu%d is left out: %s", index, exc)
        else:
            if card is not None:
                cards.append(card)
    return tuple(cards)


def read_alive(root: Path, index: int) -> bool:
    """Raises: OSError; DeviceFault for anything but 0 and 1."""
    path = tree.management(root, index) / "alive"
    text = tree.read_text(path)
    if text not in ("0", "1"):
        raise DeviceFault(
            f"Unexpected value: Bad alive value: {text[:64]} (only 0 or 1 expected) ({path})"
        )
    return text == "1"


def _card(
    root: Path, index: int, origin: Origin, device_files: tuple[DeviceFile, ...]
) -> Card | None:
    """None: not one of our platforms, which is no fault."""
    folder = tree.management(root, index)
    try:
        if tree.read_text(folder / "platform_type") != _PLATFORM:
            return None
    except FileNotFoundError:
        return None
    if not device_files:
        raise DeviceFault(f"IoError: no device file npu{index}* in {tree.nodes(root)}")
    read_alive(root, index)  # its value is a sensor's business; here it only has to make sense
    bdf = _matching(_BDF, folder / "busname")
    return Card(
        index=index,
        architecture=_architecture(folder),
        origin=origin,
        uuid=tree.read_line(folder / "device_uuid"),
        serial_number=tree.read_line(folder / "device_sn"),
        firmware_version=tree.read_line(folder / "fw_version"),
        driver_version=tree.read_line(folder / "version"),
        pci_bdf=bdf,
        pci_dev=_matching(_DEV, folder / "dev"),
        numa_node=_numa_node(tree.pci(root, bdf) / "numa_node"),
        device_files=device_files,
        cores=_cores(device_files),
        hwmon=_hwmon(tree.pci(root, bdf) / "hwmon"),
    )


def _listing(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _indexes(root: Path) -> Iterator[int]:
    for name in _listing(tree.classes(root)):
        match = _MANAGEMENT.fullmatch(name)
        if match is not None and int(match[1]) <= MAX_ID:
            yield int(match[1])


def _device_files(root: Path, is_device: Callable[[Path], bool]) -> Iterator[DeviceFile]:
    for name in _listing(tree.nodes(root)):
        try:
            file = DeviceFile.parse(name)
        except BadDeviceFile:
            continue
        if str(file) == name and is_device(tree.node(root, file)):  # npu00 is not npu0
            yield file


def _cores(device_files: tuple[DeviceFile, ...]) -> tuple[int, ...]:
    ranges = (file.cores for file in device_files if not file.cores.is_all)
    return tuple(sorted({core for r in ranges for core in range(r.first, r.last + 1)}))


def _architecture(folder: Path) -> Architecture:
    kind, revision = tree.read_line(folder / "device_type"), tree.read_line(folder / "soc_rev")
    try:
        return _ARCHITECTURES[(kind + revision).lower()]
    except KeyError:
        raise DeviceFault(
            f"Unknown architecture, arch: {kind}, rev: {revision} ({folder})"
        ) from None


def _matching(pattern: re.Pattern[str], path: Path) -> str:
    text = tree.read_line(path)
    if pattern.fullmatch(text) is None:
        raise tree.unrecognized(path, text)
    return text


def _numa_node(path: Path) -> int:
    try:
        text = tree.read_text(path)
    except FileNotFoundError:  # a kernel without NUMA has no such file
        return -1
    if _NUMA.fullmatch(text) is None or int(text) < -1:
        raise DeviceFault(f"Unexpected value: Unexpected numa node id: {text[:64]} ({path})")
    return int(text)


def _hwmon(folder: Path) -> Path | None:
    numbers = [int(m[1]) for m in map(_HWMON.fullmatch, _listing(folder)) if m is not None]
    return folder / f"hwmon{min(numbers)}" if numbers else None
