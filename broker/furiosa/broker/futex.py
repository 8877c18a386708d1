"""Waiting in the kernel for any of several 32-bit words in memory to change.

Python has no door to futex_waitv(2), so the system calls are made through the C library's `syscall`.
"""

import ctypes
import errno
import os
import platform
from collections.abc import Sequence
from typing import Final

WAITERS: Final = 0x8000_0000  # somebody waits: the kernel must wake when the holder dies
OWNER_DIED: Final = 0x4000_0000  # set by the kernel
MOST_WORDS: Final = 128  # in one wait

_SYS_FUTEX_WAITV: Final = 449  # everywhere
_SYS_FUTEX: Final = {"x86_64": 202, "aarch64": 98}.get(platform.machine(), -1)
_FUTEX_WAKE: Final = 1
_SIZE_U32: Final = 2  # and not private to this process

_libc = ctypes.CDLL(None, use_errno=True)


class _Waiter(ctypes.Structure):
    _fields_ = (
        ("value", ctypes.c_uint64),
        ("address", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    )


def wait_any(words: Sequence[tuple[ctypes.c_uint32, int]]) -> int | None:
    """Sleep while every word has the value beside it; the index of one that was woken.

    None when a word had another value to begin with, or for no reason. Ends only that way: to stop
    waiting, change a word and `wake` it. Lets other Python threads run. Raises: OSError.
    """
    waiters = (_Waiter * len(words))(
        *(_Waiter(value, ctypes.addressof(word), _SIZE_U32, 0) for word, value in words)
    )
    index = _libc.syscall(
        ctypes.c_long(_SYS_FUTEX_WAITV),
        waiters,
        ctypes.c_uint(len(words)),
        ctypes.c_uint(0),
        None,
        0,
    )
    if index >= 0:
        return int(index)
    number = ctypes.get_errno()
    if number in (errno.EAGAIN, errno.EINTR):
        return None
    raise OSError(number, os.strerror(number))


def wake(word: ctypes.c_uint32) -> None:
    """Wake whoever waits on `word`."""
    _libc.syscall(
        ctypes.c_long(_SYS_FUTEX),
        ctypes.byref(word),
        ctypes.c_int(_FUTEX_WAKE),
        ctypes.c_int(1),
        None,
    )


def is_supported() -> bool:
    """Whether this kernel, and its seccomp filter, let us wait (Linux 5.16)."""
    word = ctypes.c_uint32(1)
    try:
        return wait_any([(word, 0)]) is None and _SYS_FUTEX > 0
    except OSError:
        return False
