"""System calls that Python has no names for."""

import ctypes
import os
import signal
from collections.abc import Iterable
from typing import Final

_libc: Final = ctypes.CDLL(None, use_errno=True)

# Source: Linux, include/uapi/linux/{prctl,sched,mount}.h; the call's number is the same on x86-64 and arm64
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
_PR_SET_NO_NEW_PRIVS: Final = 38
CLONE_NEWNS: Final = 0x0002_0000
CLONE_NEWIPC: Final = 0x0800_0000
CLONE_NEWPID: Final = 0x2000_0000
CLONE_NEWNET: Final = 0x4000_0000
_SYS_MOUNT_SETATTR: Final = 442
_AT_FDCWD: Final = -100
_AT_RECURSIVE: Final = 0x8000
_MS_REC_PRIVATE: Final = 0x4000 | 0x4_0000
_MOUNT_ATTR_RDONLY_NOSUID_NODEV: Final = 0x1 | 0x2 | 0x4


class ParentGone(Exception):
    """Whoever should have outlived this process is dead already."""


class _MountAttributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns_fd")]


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; `parent` is the pid it should have.

    Precisely: when the parent's thread that forked it ends. Cleared by every change of user or group,
    so ask again afterwards. Raises: ParentGone when it came too late, as far as can be told: for the
    first process of a pid namespace every parent is 0.
    """
    _check(_libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0))
    if os.getppid() not in (parent, 0):
        raise ParentGone(f"pid {parent}")


def forbid_new_privileges() -> None:
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def rename_process(short: str, title: str) -> None:
    """Show `short` (15 bytes) as the thread's name and `title`, cut to the room there is, as command line."""
    _check(_libc.prctl(_PR_SET_NAME, short.encode()[:15], 0, 0, 0))
    with open("/proc/self/stat", "rb") as stat:
        fields = stat.read().rsplit(b")", 1)[1].split()
    start, end = int(fields[45]), int(fields[46])  # 48th and 49th of the line: arg_start, arg_end
    if start and end > start:
        room = end - start
        ctypes.memmove(start, title.encode()[: room - 1].ljust(room, b"\0"), room)


def unshare(namespace: int) -> None:
    """Raises: OSError, typically EPERM."""
    _check(_libc.unshare(namespace))


def fork_into_pid_namespace(own: int) -> int:
    """`os.fork`, the child being the first process of a new pid namespace where that is allowed.

    It then can neither see nor signal any process but its own. `own` is the descriptor of the caller's
    /proc/self/ns/pid. Raises: OSError when there is no process to be had.
    """
    try:
        unshare(CLONE_NEWPID)
    except OSError:
        return os.fork()
    pid = -1
    try:
        pid = os.fork()
    finally:
        if pid != 0:
            _check(_libc.setns(own, CLONE_NEWPID))  # or the next child would be born into it, too
    return pid


def make_mounts_read_only() -> None:
    """For the own mount namespace: nothing can be written, no set-uid program or device node works.

    Raises: OSError; ENOSYS before Linux 5.12.
    """
    _check(_libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC_PRIVATE), None))
    attributes = _MountAttributes(set=_MOUNT_ATTR_RDONLY_NOSUID_NODEV)
    _check(
        _libc.syscall(
            ctypes.c_long(_SYS_MOUNT_SETATTR),
            ctypes.c_int(_AT_FDCWD),
            ctypes.c_char_p(b"/"),
            ctypes.c_uint(_AT_RECURSIVE),
            ctypes.byref(attributes),
            ctypes.c_size_t(ctypes.sizeof(attributes)),
        )
    )


def close_all_but(kept: Iterable[int]) -> None:
    """Close every descriptor from 3 on that is not in `kept`."""
    low = 3
    for fd in sorted(kept):
        os.closerange(low, fd)
        low = max(low, fd + 1)
    os.closerange(low, 2**31 - 1)


def trim_heap() -> None:
    """Give freed memory back to the kernel; glibc would keep it."""
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)
