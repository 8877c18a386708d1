"""A device tree: where its files are under any root, and how one of them is read.

Source: devices reference 3 (dev), 7 (sysfs), 8 (performance counters), 9 (hwmon).
"""

import os
from pathlib import Path
from typing import Final, Self

from furiosa.common.names import DeviceFile

# A tree that holds this file was written by the virtual platform: its device files are plain files.
MARKER: Final = "furiosa-platform.json"
MAX_FILE_BYTES: Final = 64 * 1024  # sysfs gives at most a page; more is not a device tree


class DeviceFault(Exception):
    """A device tree does not hold what it should. Source of the texts: devices reference 6."""

    @classmethod
    def of(cls, error: OSError) -> Self:
        kind = "PermissionDenied" if isinstance(error, PermissionError) else "IoError"
        return cls(f"{kind}: {error}")


def is_emulated(root: Path) -> bool:
    return (root / MARKER).is_file()


def nodes(root: Path) -> Path:
    return root / "dev"


def node(root: Path, file: DeviceFile) -> Path:
    return nodes(root) / str(file)


def classes(root: Path) -> Path:
    return root / "sys" / "class" / "npu_mgmt"


def management(root: Path, index: int) -> Path:
    return classes(root) / f"npu{index}_mgmt"


def registers(root: Path, file: DeviceFile) -> Path:
    return classes(root) / str(file) / "perf_regs"


def pci(root: Path, bdf: str) -> Path:
    return root / "sys" / "bus" / "pci" / "devices" / bdf


def read_text(path: Path) -> str:
    """The file's text without blanks around it.

    Raises: OSError; DeviceFault for more than `MAX_FILE_BYTES` or for bytes that are not UTF-8.
    """
    with open(path, "rb", buffering=0, opener=_open) as file:
        data = file.read(MAX_FILE_BYTES + 1) or b""
    if len(data) > MAX_FILE_BYTES:
        raise DeviceFault(f"Unexpected value: {path} has more than {MAX_FILE_BYTES} bytes")
    try:
        return data.decode().strip()
    except UnicodeDecodeError:
        raise unrecognized(path, data[:64]) from None


def _open(path: str, flags: int) -> int:
    # O_NONBLOCK: a pipe where a sysfs file should be must not stop the broker
    return os.open(path, flags | os.O_NONBLOCK)


def read_line(path: Path) -> str:
    """A value of one printable line. Raises: as `read_text`; DeviceFault when it is something else."""
    text = read_text(path)
    if not text or not text.isprintable():
        raise unrecognized(path, text)
    return text


def unrecognized(path: Path, value: str | bytes) -> DeviceFault:
    return DeviceFault(
        f"Incompatible device driver: {path.name} file cannot be recognized ({path}: {value!r})"
    )
