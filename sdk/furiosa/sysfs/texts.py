"""What a card's files say now, as text, for somebody else to make sense of."""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from furiosa.common.views import CardPart, CardTexts
from furiosa.sysfs import hwmon, tree
from furiosa.sysfs.discovery import Card
from furiosa.sysfs.tree import DeviceFault

# those that change while a driver is loaded
LIVE: Final = ("alive", "atr_error", "fw_version", "heartbeat", "ne_clk_freq_info", "version")
_SENSOR = re.compile(r"(?:curr|in|power|temp)[0-9]{1,9}_(?:input|average|label)")
_MOST_SENSORS: Final = 256  # files; a Warboy has about 40


def collect(
    root: Path, card: Card, part: CardPart, *, clock_ns: Callable[[], int] = time.monotonic_ns
) -> CardTexts:
    """One part of what `card` says. A file that cannot be read is a failure of its own.

    Raises: OSError when this process is short of something.
    """
    files, failures = {}, {}
    for name, path in _PATHS[part](root, card):
        try:
            files[name] = tree.read_text(path)
        except OSError as exc:
            if tree.is_ours(exc):
                raise
            failures[name] = str(DeviceFault.of(exc))
        except DeviceFault as exc:
            failures[name] = str(exc)
    return CardTexts(clock_ns(), files, failures)


def _card(root: Path, card: Card) -> Iterator[tuple[str, Path]]:
    return ((name, tree.management(root, card.index) / name) for name in LIVE)


def _sensors(root: Path, card: Card) -> Iterator[tuple[str, Path]]:
    folder = hwmon.folder(root, card.pci_bdf)
    if folder is None:
        return
    names = [name for name in os.listdir(folder) if _SENSOR.fullmatch(name)]
    for name in sorted(names)[:_MOST_SENSORS]:
        yield name, folder / name


def _counters(root: Path, card: Card) -> Iterator[tuple[str, Path]]:
    return ((str(file), tree.registers(root, file)) for file in card.device_files)


_PATHS: Final[Mapping[CardPart, Callable[[Path, Card], Iterator[tuple[str, Path]]]]] = {
    CardPart.CARD: _card,
    CardPart.SENSORS: _sensors,
    CardPart.COUNTERS: _counters,
}
