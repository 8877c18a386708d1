"""Every error of furiosa.device. Source of the texts: devices reference 6.

DeviceError                 a RuntimeError, as in the published package
├── DeviceNotFound          no such card or file, or fewer than asked for
├── DeviceBusy              they are there, and somebody has them
├── IoError                 the system said so
├── PermissionDenied        likewise
├── UnknownArch
├── IncompatibleDriver      a file is not what it should be
├── HwmonError              a sensor
├── PerformanceCounterError a counter
├── UnexpectedValue         a file of the driver holds something else than it should
├── ParseError              not a device configuration
└── BrokerError             the broker cannot be asked
"""

__all__ = [
    "BrokerError",
    "DeviceBusy",
    "DeviceError",
    "DeviceNotFound",
    "HwmonError",
    "IncompatibleDriver",
    "IoError",
    "ParseError",
    "PerformanceCounterError",
    "PermissionDenied",
    "UnexpectedValue",
    "UnknownArch",
]


class DeviceError(RuntimeError):
    """Base of the tree; raised itself for nothing."""


class DeviceNotFound(DeviceError):
    pass


class DeviceBusy(DeviceError):
    pass


class IoError(DeviceError):
    pass


class PermissionDenied(DeviceError):
    pass


class UnknownArch(DeviceError):
    pass


class IncompatibleDriver(DeviceError):
    pass


class HwmonError(DeviceError):
    pass


class PerformanceCounterError(DeviceError):
    pass


class UnexpectedValue(DeviceError):
    pass


class ParseError(DeviceError):
    pass


class BrokerError(DeviceError):
    pass


_BEGINNINGS = (
    ("PermissionDenied: ", PermissionDenied),
    ("Unknown architecture, ", UnknownArch),
    ("Incompatible device driver: ", IncompatibleDriver),
    ("HwmonError: ", HwmonError),
    ("PerformanceCounterError: ", PerformanceCounterError),
    ("Unexpected value: ", UnexpectedValue),
)


def of_text(text: str) -> DeviceError:
    """The error that says `text`, which is what a device tree's fault says."""
    for beginning, kind in _BEGINNINGS:
        if text.startswith(beginning):
            return kind(text)
    return IoError(text if text.startswith("IoError: ") else f"IoError: {text}")
