"""What a worker sees of the file system: nothing it could write, nothing others left lying about."""

import contextlib
import ctypes
import os
from pathlib import Path
from typing import Final

from furiosa.broker.workers.linux import CLONE_NEWNS, check, libc, unshare

# Source: Linux, include/uapi/linux/mount.h, asm-generic/unistd.h; the number is the same on x86-64 and arm64
_SYS_MOUNT_SETATTR: Final = 442
_AT_FDCWD: Final = -100
_AT_RECURSIVE: Final = 0x8000
_MOUNT_ATTR_RDONLY_NOSUID_NODEV: Final = 0x1 | 0x2 | 0x4
_MS_NOSUID_NODEV_NOEXEC: Final = 0x2 | 0x4 | 0x8
_MS_BIND: Final = 0x1000
_MS_MOVE: Final = 0x2000
_MS_REC_PRIVATE: Final = 0x4000 | 0x4_0000

SCRATCH: Final = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))
_PROC: Final = Path("/proc")
_CPUINFO: Final = "cpuinfo"  # all that an engine wants to know from /proc
_SIZE: Final = b"size=64k,nr_inodes=16,mode=755"  # read-only in the end, so no room is needed


class _MountAttributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns_fd")]


def unshare_mounts() -> None:
    """From here on what is mounted here is mounted nowhere else. Raises: OSError, typically EPERM."""
    unshare(CLONE_NEWNS)
    _mount("none", Path("/"), None, _MS_REC_PRIVATE)


def hide_scratch() -> None:
    """An empty file system over each folder that everybody may write to. Raises: OSError."""
    for folder in SCRATCH:
        with contextlib.suppress(FileNotFoundError):
            _cover(folder)


def hide_processes() -> None:
    """Nothing in /proc but `cpuinfo`: no other process, and no way to reopen a descriptor.

    For a process whose /tmp is hidden already. Raises: OSError.
    """
    kept = SCRATCH[0] / _CPUINFO
    kept.touch()
    _mount(str(_PROC / _CPUINFO), kept, None, _MS_BIND)
    _cover(_PROC)
    (_PROC / _CPUINFO).touch()
    _mount(str(kept), _PROC / _CPUINFO, None, _MS_MOVE)
    kept.unlink()


def make_mounts_read_only() -> None:
    """Nothing can be written, no set-uid program or device node works.

    Raises: OSError; ENOSYS before Linux 5.12.
    """
    attributes = _MountAttributes(set=_MOUNT_ATTR_RDONLY_NOSUID_NODEV)
    check(
        libc.syscall(
            ctypes.c_long(_SYS_MOUNT_SETATTR),
            ctypes.c_int(_AT_FDCWD),
            ctypes.c_char_p(b"/"),
            ctypes.c_uint(_AT_RECURSIVE),
            ctypes.byref(attributes),
            ctypes.c_size_t(ctypes.sizeof(attributes)),
        )
    )


def _cover(folder: Path) -> None:
    _mount("none", folder, b"tmpfs", _MS_NOSUID_NODEV_NOEXEC, _SIZE)


def _mount(
    source: str, target: Path, kind: bytes | None, flags: int, options: bytes | None = None
) -> None:
    check(libc.mount(source.encode(), os.fsencode(target), kind, ctypes.c_ulong(flags), options))
