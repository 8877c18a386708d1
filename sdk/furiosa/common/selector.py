"""Device specifications such as "warboy(2)*1" or "npu:0:0-1": text to a value and back.

Source: devices reference 5.2, but for a count of 0, which that takes.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from furiosa.common.errors import BadDeviceSpec
from furiosa.common.names import ALL, MAX_ID, CoreRange, DeviceFile

DEFAULT_SPEC = "warboy(2)*1"

_CORES = r"(\d{1,9})(?:-(\d{1,9}))?"
_RAW = re.compile(rf"npu(\d{{1,9}})(?:pe{_CORES})?", re.ASCII)
_NAMED = re.compile(rf"npu:(\d{{1,9}})(?::{_CORES})?", re.ASCII)
_COUNTED = re.compile(r"warboy(?:\((\d{1,9})\))?\*(\d{1,9})", re.ASCII)
_GRAMMAR = "expected npu:<card>[:<core>[-<core>]], npu<card>[pe<core>[-<core>]] or warboy[(<cores>)]*<count>"


@dataclass(frozen=True, slots=True)
class Named:
    """One certain file."""

    file: DeviceFile

    def __str__(self) -> str:
        cores = self.file.cores
        if cores.is_all:
            return f"npu:{self.file.npu}"
        if cores.width == 1:
            return f"npu:{self.file.npu}:{cores.first}"
        return f"npu:{self.file.npu}:{cores.first}-{cores.last}"


@dataclass(frozen=True, slots=True)
class Counted:
    """Any `count` files of Warboy cards with `cores` PEs each; 1 asks for single PEs, else fused ones."""

    cores: int
    count: int

    def __str__(self) -> str:
        return f"warboy({self.cores})*{self.count}"


Item = Named | Counted


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """What to lease: one or more items, in the order written."""

    items: tuple[Item, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises: BadDeviceSpec."""
        return cls(tuple(_item(text, part) for part in text.split(",")))

    def __str__(self) -> str:
        return ",".join(map(str, self.items))

    def may_want(self, files: Iterable[DeviceFile]) -> bool:
        """Whether one of the files may be in its way."""
        return any(isinstance(i, Counted) or i.file.overlaps(f) for i in self.items for f in files)


def _item(text: str, part: str) -> Item:
    if not part:
        raise BadDeviceSpec(text, f"an item is empty; {_GRAMMAR}")
    if match := _RAW.fullmatch(part) or _NAMED.fullmatch(part):
        card, first, last = match.groups()
        return Named(DeviceFile(_number(text, card), _range(text, first, last)))
    if match := _COUNTED.fullmatch(part):
        cores, count = (_number(text, digits or "1") for digits in match.groups())
        if count == 0:
            raise BadDeviceSpec(text, f"{part!r} asks for no device: expected a count of 1 or more")
        return Counted(cores, count)
    raise BadDeviceSpec(text, f"{part!r} is no device; {_GRAMMAR}")


def _range(text: str, first: str | None, last: str | None) -> CoreRange:
    if first is None:
        return ALL
    low = _number(text, first)
    if last is None:
        return CoreRange(low, low)
    high = _number(text, last)
    if high <= low:
        raise BadDeviceSpec(text, f"core range {low}-{high} does not ascend")
    return CoreRange(low, high)


def _number(text: str, digits: str) -> int:
    value = int(digits)
    if value > MAX_ID:
        raise BadDeviceSpec(text, f"{value} is above {MAX_ID}")
    return value
