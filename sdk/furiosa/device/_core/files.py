"""Device files, as furiosa.device shows them."""

from furiosa.common.names import DeviceFile as Name
from furiosa.device._core.values import CoreRange, DeviceMode


def mode_of(name: Name) -> DeviceMode:
    """Source: devices reference 3."""
    if name.cores.is_all:
        return DeviceMode.MultiCore
    return DeviceMode.Single if name.cores.width == 1 else DeviceMode.Fusion


class DeviceFile:
    """A file that stands for a card or for some of its cores, e.g. npu0pe0-1."""

    def __init__(self, name: Name, path: str) -> None:
        """`path`: absolute."""
        self._name = name
        self._path = path

    def path(self) -> str:
        """Absolute."""
        return self._path

    def filename(self) -> str:
        return str(self._name)

    def device_index(self) -> int:
        """Of its card."""
        return self._name.npu

    def devfile_index(self) -> int:
        """As `device_index`; the later name."""
        return self._name.npu

    def core_range(self) -> CoreRange:
        return CoreRange.of(self._name.cores)

    def mode(self) -> DeviceMode:
        return mode_of(self._name)

    def __repr__(self) -> str:
        return str(self._name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DeviceFile):
            return NotImplemented
        return self._name == other._name and self._path == other._path

    def __hash__(self) -> int:
        return hash((self._name, self._path))
