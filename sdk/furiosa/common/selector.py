"""Device specifications such as "warboy(2)*1" or "npu:0:0-1": text to a value and back.

Source: devices reference 5.2 (grammar) and 5.3 (how files are found).
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from furiosa.common.errors import BadDeviceSpec, UnknownDevice
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

    def matches(self, file: DeviceFile) -> bool:
        return file == self.file


@dataclass(frozen=True, slots=True)
class Counted:
    """Any `count` files of Warboy cards with `cores` PEs each; 1 asks for single PEs, else fused ones."""

    cores: int
    count: int

    def __str__(self) -> str:
        return f"warboy({self.cores})*{self.count}"

    def matches(self, file: DeviceFile) -> bool:
        if file.cores.is_all:
            return False
        return (file.cores.width == 1) == (self.cores == 1)


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
        cores, count = match.groups()
        return Counted(_number(text, cores or "1"), _number(text, count))
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


def find(
    spec: DeviceSpec, files: Collection[DeviceFile], busy: Iterable[DeviceFile]
) -> Sequence[DeviceFile] | None:
    """Files that satisfy `spec`, in the order of its items (named ones first); None when some are busy.

    `files` are all that exist, `busy` those in use; a candidate that overlaps a busy file, or one
    already chosen for an earlier item, does not count. Named items come first, then written order.
    Raises: UnknownDevice when there are not enough candidates even with nothing in use.
    Source: devices reference 5.3.
    """
    ordered = sorted(spec.items, key=lambda item: isinstance(item, Counted))
    taken = tuple(busy)
    chosen: list[DeviceFile] = []
    short = False
    for item in ordered:
        wanted = item.count if isinstance(item, Counted) else 1
        candidates = sorted(
            (f for f in files if item.matches(f) and not any(f.overlaps(c) for c in chosen)),
            key=lambda f: f.sort_key,
        )
        if len(_disjoint(candidates, wanted)) < wanted:
            raise UnknownDevice(str(spec))
        free = [f for f in candidates if not any(f.overlaps(b) for b in taken)]
        picked = _disjoint(free, wanted)
        short = short or len(picked) < wanted
        # A busy item still reserves its place, or a later one would be judged against the wrong rest.
        chosen += picked if len(picked) == wanted else _disjoint(candidates, wanted)
    return None if short else chosen


def _disjoint(files: Sequence[DeviceFile], wanted: int) -> list[DeviceFile]:
    picked: list[DeviceFile] = []
    for file in files:
        if len(picked) == wanted:
            break
        if not any(file.overlaps(p) for p in picked):
            picked.append(file)
    return picked
