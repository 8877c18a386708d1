"""A device tree: where its files are under any root, and how one of them is read.

Source: devices reference 3 (dev), 7 (sysfs), 8 (performance counters), 9 (hwmon).
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self, TypeVar

from furiosa.common.names import DeviceFile

_T = TypeVar("_T")

# A tree that holds this file was written by the virtual platform: its device files are plain files.
MARKER: Final = "furiosa-platform.json"
MAX_FILE_BYTES: Final = 64 * 1024  # sysfs gives at most a page; more is not a device tree
_OURS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class DeviceFault(Exception):
    """A device tree does not hold what it should. Source of the texts: devices reference 6."""

    @classmethod
    def of(cls, error: OSError) -> Self:
        kind = "PermissionDenied" if isinstance(error, PermissionError) else "IoError"
        return cls(f"{kind}: {error}")


def is_ours(error: OSError) -> bool:
    """Whether it says that the broker is short of something, and nothing about a card."""
    return error.errno in _OURS


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


def number(root: Path, file: DeviceFile) -> Path:
    return classes(root) / str(file) / "dev"


def pci(root: Path, bdf: str) -> Path:
    return root / "sys" / "bus" / "pci" / "devices" / bdf


def read_text(path: Path) -> str:
    """The file's text without blanks around it.

    Raises: OSError; DeviceFault for more than `MAX_FILE_BYTES` or for bytes that are not UTF-8.
    """
    # O_NONBLOCK: a pipe where a sysfs file should be must not stop the broker
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        data = os.read(fd, MAX_FILE_BYTES + 1)
    finally:
        os.close(fd)
    if len(data) > MAX_FILE_BYTES:
        raise DeviceFault(f"Unexpected value: {path} has more than {MAX_FILE_BYTES} bytes")
    try:
        return data.decode().strip()
    except UnicodeDecodeError:
        raise unrecognized(path, data[:64]) from None


def read_line(path: Path) -> str:
    """A value of one printable line. Raises: as `read_text`; DeviceFault when it is something else."""
    text = read_text(path)
    if not text or not text.isprintable():
        raise unrecognized(path, text)
    return text


def parsed(path: Path, parse: Callable[[str], _T]) -> _T:
    """A value of any form. Raises: as `read_text`; DeviceFault of `parse`, with the path."""
    text = read_text(path)
    try:
        return parse(text)
    except DeviceFault as fault:
        raise DeviceFault(f"{fault} ({path})") from None


def unrecognized(path: Path, value: str | bytes) -> DeviceFault:
    return DeviceFault(
        f"Incompatible device driver: {path.name} file cannot be recognized ({path}: {value!r})"
    )
