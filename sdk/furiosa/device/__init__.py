"""Cards of this machine: what they are, what they say, which of their cores can be had. `sync` blocks.

    for device in await list_devices():
        print(device, device.device_uuid(), await device.get_status_all())

Source: device API reference 1.
"""

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
from furiosa.device._device import Device, Fetcher
from furiosa.device._threads import in_thread
from furiosa.device._version import VERSION, full_version

__version__ = VERSION
__full_version__ = full_version()

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
    "Fetcher",
    "NeClockFrequency",
    "PerformanceCounter",
    "SensorValue",
    "Utilization",
    "__full_version__",
    "__version__",
    "find_device_files",
    "get_device",
    "get_device_file",
    "list_devices",
]


async def list_devices() -> list[Device]:
    """Every card, by index; none is no error."""
    return await in_thread(_listing.devices, Device)


async def get_device(idx: int) -> Device:
    """The card of that number. Raises: DeviceNotFound."""
    return await in_thread(_listing.device, Device, idx)


async def find_device_files(config: DeviceConfig) -> list[DeviceFile]:
    """Files that `config` means and that are available now; they are not taken.

    Raises: DeviceNotFound, DeviceBusy.
    """
    return await in_thread(_listing.device_files, config)


async def get_device_file(device_name: str) -> DeviceFile:
    """The file of that name, such as "npu0pe0". Raises: DeviceNotFound, IncompatibleDriver, IoError."""
    return await in_thread(_listing.device_file, device_name)
