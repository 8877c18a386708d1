"""Which cards there are: looks at <root>/dev and <root>/sys, real or written by the virtual platform.

A card that makes no sense is left out with a warning and hides no other. Live values: `sensors`.
Source: devices reference 2 (architectures), 3 (device files), 7 (sysfs).
"""

import contextlib
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from furiosa.common.errors import BadDeviceFile
from furiosa.common.names import MAX_CARD, DeviceFile
from furiosa.common.views import Architecture, Origin
from furiosa.sysfs import tree, values
from furiosa.sysfs.tree import DeviceFault

_log = logging.getLogger(__name__)

_PLATFORM: Final = "FuriosaAI"
_ARCHITECTURES: Final = {"warboyb0": Architecture.WARBOY}  # device_type + soc_rev, lower case
_MANAGEMENT = re.compile(r"npu(0|[1-9][0-9]{0,4})_mgmt")
_DEV_FOLDER: Final = "dev"
_CLASS_FOLDER: Final = "class"
_NUMBERED = re.compile(r"npu([0-9]{1,5})(?![0-9])")
_BDF = re.compile(r"[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]")
_DEV = re.compile(r"[0-9]{1,10}:[0-9]{1,10}")
_NUMA = re.compile(r"-?[0-9]{1,9}")

Enter = Callable[[str], bool]  # told what is looked at next; False: leave it alone


def everything(subject: str) -> bool:
    return True


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
    incarnation: int  # another number when the driver has made the card anew


@dataclass(frozen=True, slots=True)
class Survey:
    """What one look found; the next one starts from it."""

    cards: tuple[Card, ...] = ()  # by index
    faults: Mapping[int, str] = field(default_factory=dict)  # cards left out, and why
    listing: frozenset[tuple[str, str, int]] = frozenset()  # folder, name, inode


NOTHING: Final = Survey()


def discover(
    root: Path, *, is_device: Callable[[Path], bool] = Path.is_char_device
) -> tuple[Card, ...]:
    """Every card that works under `root`, by index; () where there is no driver. As `survey`."""
    return survey(root, is_device=is_device).cards


def survey(
    root: Path,
    before: Survey = NOTHING,
    *,
    is_device: Callable[[Path], bool] = Path.is_char_device,
    enter: Enter = everything,
) -> Survey:
    """Look again: `before` itself when nothing has changed, which costs two listings.

    Names and inodes of the entries of both folders tell which cards to read anew, beside those that
    were left out; times of folders do not, for sysfs does not keep them. `is_device` tells device
    files from other files with such a name; it is asked on hardware only, for on an emulated tree (see
    `tree.MARKER`) the device files are plain files. `enter` may stop a card from being read: it stays
    as it was.
    Raises: OSError when `root`'s folders are there and cannot be listed, or the broker is short of
    something.
    """
    root = root.absolute()
    if not enter("the device tree"):
        return before
    listing = frozenset(_listing(root))
    if listing == before.listing and not before.faults:
        return before
    origin = Origin.EMULATED if tree.is_emulated(root) else Origin.HARDWARE
    if origin is Origin.EMULATED:
        is_device = Path.is_file
    cards = {card.index: card for card in before.cards}
    faults = dict(before.faults)
    changed = _numbers(listing ^ before.listing) | before.faults.keys()
    found = _found(listing, changed)
    for index in sorted(changed):
        if index in found and not enter(f"npu{index}"):
            continue
        cards.pop(index, None)
        faults.pop(index, None)
        if index not in found:
            continue
        entry = found[index]
        try:
            files = (file for file in entry.files if is_device(tree.node(root, file)))
            own = tuple(sorted(files, key=lambda file: file.sort_key))
            card = _card(root, index, origin, own, entry.inode)
        except (OSError, DeviceFault) as exc:
            if isinstance(exc, OSError) and tree.is_ours(exc):
                raise
            faults[index] = str(DeviceFault.of(exc) if isinstance(exc, OSError) else exc)
            if faults[index] != before.faults.get(index):
                _log.warning("npu%d is left out: %s", index, faults[index])
        else:
            if card is not None:
                cards[index] = card
    return Survey(tuple(cards[index] for index in sorted(cards)), faults, listing)


def read_alive(root: Path, index: int) -> bool:
    """Raises: OSError; DeviceFault for anything but 0 and 1."""
    return tree.parsed(tree.management(root, index) / "alive", values.alive)


def _card(
    root: Path,
    index: int,
    origin: Origin,
    device_files: tuple[DeviceFile, ...],
    incarnation: int,
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
        incarnation=incarnation,
    )


def _listing(root: Path) -> Iterator[tuple[str, str, int]]:
    for folder in (_DEV_FOLDER, _CLASS_FOLDER):
        path = tree.nodes(root) if folder == _DEV_FOLDER else tree.classes(root)
        try:
            entries = os.scandir(path)
        except FileNotFoundError:
            continue
        with entries:
            for entry in entries:
                if entry.name.startswith("npu"):
                    yield folder, entry.name, entry.inode()


def _numbers(entries: Iterable[tuple[str, str, int]]) -> set[int]:
    """Of the cards that the entries belong to."""
    matches = (_NUMBERED.match(name) for _, name, _ in entries)
    return {int(match[1]) for match in matches if match is not None}


@dataclass(slots=True)
class _Entry:
    inode: int
    files: list[DeviceFile]


def _found(listing: Iterable[tuple[str, str, int]], wanted: Set[int]) -> dict[int, _Entry]:
    """The cards among `wanted` that have a management folder, with the files that may be theirs."""
    found = {}
    for folder, name, inode in listing:
        match = _MANAGEMENT.fullmatch(name) if folder == _CLASS_FOLDER else None
        if match is not None and int(match[1]) in wanted and int(match[1]) <= MAX_CARD:
            found[int(match[1])] = _Entry(inode, [])
    for folder, name, _ in listing:
        if folder == _DEV_FOLDER and not found.keys().isdisjoint(_numbers([(folder, name, 0)])):
            with contextlib.suppress(BadDeviceFile):
                file = DeviceFile.parse(name)
                found[file.npu].files.append(file)
    return found


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
