"""The blocking twin of `furiosa.device`. Source: device API reference 1."""

from furiosa.device import _listing
from furiosa.device._core.config import DeviceConfig
from furiosa.device._core.files import DeviceFile
from furiosa.device._core.values import (
    Arch,
    CoreRange,
    CoreRangeType,
    CoreStatus,
    CoreStatusType,
    DeviceMode,
    NeClockFrequency,
    PerformanceCounter,
    SensorValue,
    Utilization,
)
from furiosa.device._device import Device, DeviceSync, FetcherSync

__all__ = [
    "Arch",
    "CoreRange",
    "CoreRangeType",
    "CoreStatus",
    "CoreStatusType",
    "Device",
    "DeviceConfig",
    "DeviceFile",
    "DeviceMode",
    "DeviceSync",
    "FetcherSync",
    "NeClockFrequency",
    "PerformanceCounter",
    "SensorValue",
    "Utilization",
    "find_device_files",
    "get_device",
    "get_device_file",
    "list_devices",
]


def list_devices() -> list[DeviceSync]:
    """Every card, by index; none is no error."""
    return _listing.devices(DeviceSync)


def get_device(idx: int) -> Device:
    """The card of that number; a Device, as published. Raises: DeviceNotFound."""
    return _listing.device(Device, idx)


def find_device_files(config: DeviceConfig) -> list[DeviceFile]:
    """Files that `config` means and that are available now; they are not taken.

    Raises: DeviceNotFound, DeviceBusy.
    """
    return _listing.device_files(config)


def get_device_file(device_name: str) -> DeviceFile:
    """The file of that name, such as "npu0pe0". Raises: DeviceNotFound, IncompatibleDriver, IoError."""
    return _listing.device_file(device_name)
