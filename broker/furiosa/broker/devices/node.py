"""Opening a device node for the owner of a lease: by the broker, so that no path ever comes from a client.

Source: devices reference 3.1 (a second open fails with EBUSY), open(2).
"""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from furiosa.common.names import DeviceFile
from furiosa.common.views import Origin
from furiosa.sysfs import tree
from furiosa.sysfs.discovery import Card
from furiosa.sysfs.tree import DeviceFault

_FLAGS: Final = os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC

Open = Callable[[str, int, int], int]  # name, flags, descriptor of the folder it is in


class NodeFault(Exception):
    """A device node cannot be handed over; the text names the node and the cause."""


class NodeHeld(NodeFault):
    """Somebody has the node open, although the broker leased it to nobody else."""


def _openat(name: str, flags: int, folder: int) -> int:
    return os.open(name, flags, dir_fd=folder)


def open_node(root: Path, card: Card, file: DeviceFile, *, openat: Open = _openat) -> int:
    """A descriptor of `file` for reading and writing, close-on-exec and blocking; it is the caller's.

    `file` must be one that discovery found on `card`, and be what it should be: a character device on
    hardware, of the number that the driver's class folder gives if it gives one, a plain file on an
    emulated card. The driver may take its time over it: call it in a thread.
    Raises: NodeHeld; NodeFault.
    """
    if file not in card.device_files:
        raise NodeFault(f"{file} is not a device file of npu{card.index}")
    path = tree.node(root, file)
    try:
        folder = os.open(tree.nodes(root), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fd = openat(str(file), _FLAGS, folder)
        finally:
            os.close(folder)
    except OSError as exc:
        if exc.errno == errno.EBUSY:
            raise NodeHeld(f"{path} is held by a process that has no lease on it") from None
        if exc.errno == errno.ELOOP:
            raise NodeFault(f"{path} is a symbolic link, not a device node") from None
        raise NodeFault(str(DeviceFault.of(exc))) from None
    try:
        _check(root, card, file, fd)
        os.set_blocking(fd, True)  # O_NONBLOCK was for us, in case it is a pipe
    except BaseException:
        os.close(fd)
        raise
    return fd


def _check(root: Path, card: Card, file: DeviceFile, fd: int) -> None:
    path, status = tree.node(root, file), os.fstat(fd)
    if card.origin is Origin.EMULATED:
        if not stat.S_ISREG(status.st_mode):
            raise NodeFault(f"{path} is not a plain file, as emulated device files are")
        return
    if not stat.S_ISCHR(status.st_mode):
        raise NodeFault(f"{path} is not a character device")
    number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    try:
        expected = tree.read_text(tree.number(root, file))
    except FileNotFoundError:
        return
    except (OSError, DeviceFault) as exc:
        raise NodeFault(f"the number of {path} is not known: {exc}") from None
    if number != expected:
        raise NodeFault(f"{path} is device {number}, expected {expected}")
