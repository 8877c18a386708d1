"""System calls that Python has no names for."""

import ctypes
import os
import signal
from collections.abc import Iterable
from typing import Final

libc: Final = ctypes.CDLL(None, use_errno=True)

# Source: Linux, include/uapi/linux/{prctl,sched}.h
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
CLONE_NEWNS: Final = 0x0002_0000
CLONE_NEWUTS: Final = 0x0400_0000
CLONE_NEWIPC: Final = 0x0800_0000
CLONE_NEWUSER: Final = 0x1000_0000
CLONE_NEWPID: Final = 0x2000_0000
CLONE_NEWNET: Final = 0x4000_0000


class ParentGone(Exception):
    """Whoever should have outlived this process is dead already."""


def check(result: int) -> None:
    """Raises: OSError with the reason of a call of `libc` that failed."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def prctl(option: int, *arguments: int) -> None:
    """Raises: OSError."""
    padded = (*arguments, 0, 0, 0, 0)[:4]  # the kernel wants those it does not use to be zero
    check(libc.prctl(option, *map(ctypes.c_ulong, padded)))


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; `parent` is the pid it should have.

    Precisely: when the parent's thread that forked it ends. Cleared by every change of user or group,
    so ask again afterwards. Raises: ParentGone when it came too late, as far as can be told: for the
    first process of a pid namespace every parent is 0.
    """
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() not in (parent, 0):
        raise ParentGone(f"pid {parent}")


def rename_process(short: str, title: str) -> None:
    """Show `short` (15 bytes) as the thread's name and `title`, cut to the room there is, as command line."""
    check(libc.prctl(_PR_SET_NAME, short.encode()[:15], 0, 0, 0))
    with open("/proc/self/stat", "rb") as stat:
        fields = stat.read().rsplit(b")", 1)[1].split()
    start, end = int(fields[45]), int(fields[46])  # 48th and 49th of the line: arg_start, arg_end
    if start and end > start:
        room = end - start
        ctypes.memmove(start, title.encode()[: room - 1].ljust(room, b"\0"), room)


def unshare(namespace: int) -> None:
    """Raises: OSError, typically EPERM."""
    check(libc.unshare(namespace))


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
            check(libc.setns(own, CLONE_NEWPID))  # or the next child would be born into it, too
    return pid


def close_all_but(kept: Iterable[int]) -> None:
    """Close every descriptor from 3 on that is not in `kept`."""
    low = 3
    for fd in sorted(kept):
        os.closerange(low, fd)
        low = max(low, fd + 1)
    os.closerange(low, 2**31 - 1)


def trim_heap() -> None:
    """Give freed memory back to the kernel; glibc would keep it."""
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
