"""Device file names and core ranges: parse, print, compare.

Source: devices reference 3 (names, order of a card's files) and 3.1 (what overlaps).
"""

import re
from dataclasses import dataclass
from typing import Final, Self

from furiosa.common.errors import BadDeviceFile

MAX_ID: Final = 255  # core numbers, and card numbers in a device specification, are 0..255
MAX_CARD: Final = 65_535
_BEYOND: Final = MAX_ID + 1  # no written range reaches it
_ID = r"(0|[1-9]\d{0,4})"  # one way to write each number, so that names can be compared as text
_FILE = re.compile(rf"npu{_ID}(?:pe{_ID}(?:-{_ID})?)?")


@dataclass(frozen=True, slots=True, order=True)
class CoreRange:
    """Cores `first`..`last` of a card, both included; `ALL` is the whole card, however many it has."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last <= _BEYOND:
            raise ValueError(f"core range {self.first}-{self.last} is not within 0-{MAX_ID}")

    @property
    def is_all(self) -> bool:
        return self.last == _BEYOND and self.first == 0

    @property
    def width(self) -> int:
        return self.last - self.first + 1

    def __contains__(self, core: int) -> bool:
        return self.first <= core <= self.last

    def overlaps(self, other: "CoreRange") -> bool:
        return self.first <= other.last and other.first <= self.last


ALL: Final = CoreRange(0, _BEYOND)


@dataclass(frozen=True, slots=True)
class DeviceFile:
    """One leasable file of card `npu`, e.g. npu0pe0-1. Overlap, not equality, decides exclusivity."""

    npu: int
    cores: CoreRange

    def __post_init__(self) -> None:
        if not 0 <= self.npu <= MAX_CARD:
            raise ValueError(f"card number {self.npu} is not within 0-{MAX_CARD}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises: BadDeviceFile, with the grammar in its message."""
        match = _FILE.fullmatch(text)
        if match is None:
            raise BadDeviceFile(text)
        npu, first, last = (None if group is None else int(group) for group in match.groups())
        if npu is None or npu > MAX_CARD or max(first or 0, last or 0) > MAX_ID:
            raise BadDeviceFile(text)
        if first is None:
            return cls(npu, ALL)
        if last is not None and last <= first:
            raise BadDeviceFile(text)
        return cls(npu, CoreRange(first, first if last is None else last))

    def __str__(self) -> str:
        if self.cores.is_all:
            return f"npu{self.npu}"
        if self.cores.width == 1:
            return f"npu{self.npu}pe{self.cores.first}"
        return f"npu{self.npu}pe{self.cores.first}-{self.cores.last}"

    def overlaps(self, other: "DeviceFile") -> bool:
        return self.npu == other.npu and self.cores.overlaps(other.cores)

    @property
    def sort_key(self) -> tuple[int, int, int]:
        """By card; then the whole card, narrower ranges, lower start."""
        return (self.npu, 0 if self.cores.is_all else self.cores.width, self.cores.first)
