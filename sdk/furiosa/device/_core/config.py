"""Which devices to find: by number of PEs, or by name. Source: device API reference 3."""

import os
from dataclasses import dataclass
from typing import Self

from furiosa.common.errors import BadDeviceSpec
from furiosa.common.names import MAX_ID, DeviceFile
from furiosa.common.selector import Counted, DeviceSpec, Named
from furiosa.device._core.values import Arch, DeviceMode
from furiosa.device.errors import DeviceError, ParseError

_PRINTED = {
    DeviceMode.Single: "warboy(1)*{}",
    DeviceMode.Fusion: "warboy(2)*{}",
    DeviceMode.MultiCore: "warboy*{}",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """So many files of a mode, or the one that is named."""

    text: str
    mode: DeviceMode
    count: int = 1
    file: DeviceFile | None = None


class DeviceConfig:
    """By default one pair of PEs as one device. Raises: DeviceError for another arch than Warboy."""

    def __init__(
        self, arch: Arch = Arch.Warboy, mode: DeviceMode = DeviceMode.Fusion, count: int = 1
    ) -> None:
        """`count`: 0 to 255."""
        if arch not in (Arch.Warboy, Arch.WarboyA0):
            raise DeviceError(f"Invalid architecture: Not supported architecture '{arch.value}'")
        if not isinstance(count, int) or isinstance(count, bool):
            raise TypeError(f"count: expected an int, found {type(count).__name__}")
        if not 0 <= count <= MAX_ID:
            raise OverflowError(f"count: expected 0 to {MAX_ID}, found {count}")
        self._wanted: tuple[Wanted, ...] = (
            Wanted(_PRINTED[DeviceMode(mode)].format(count), mode, count),
        )

    @classmethod
    def from_str(cls, text: str) -> Self:
        """From a specification such as "npu:0:0-1" or "warboy(2)*1". Raises: ParseError."""
        try:
            spec = DeviceSpec.parse(text)
        except BadDeviceSpec as error:
            raise ParseError(str(error)) from None
        made = cls()
        made._wanted = tuple(map(_wanted, spec.items))
        return made

    @classmethod
    def from_env(cls, key: str) -> Self:
        """From an environment variable. Raises: ParseError, also when it is not set."""
        text = os.environ.get(key)
        if text is None:
            raise ParseError("Failed to parse given message : fallback device config is not set")
        return cls.from_str(text)

    @property
    def wanted(self) -> tuple[Wanted, ...]:
        """In the order written."""
        return self._wanted

    def __repr__(self) -> str:
        return ",".join(wanted.text for wanted in self._wanted)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DeviceConfig):
            return NotImplemented
        return self._wanted == other._wanted

    def __hash__(self) -> int:
        return hash(self._wanted)


def _wanted(item: Named | Counted) -> Wanted:
    if isinstance(item, Counted):
        # any other number than 1 means a pair; it is only printed back
        mode = DeviceMode.Single if item.cores == 1 else DeviceMode.Fusion
        return Wanted(str(item), mode, item.count)
    return Wanted(str(item), DeviceMode.MultiCore, file=item.file)
