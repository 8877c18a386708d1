"""How the process uses memory."""

import ctypes
from typing import Final

_libc: Final = ctypes.CDLL(None)
# Source: glibc, malloc.h
_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_THRESHOLD: Final = -3
_MIB: Final = 1024 * 1024


def keep_freed_memory() -> None:
    """Have glibc reuse the memory of large messages instead of mapping and unmapping it every time.

    It took a unary call of 600 kB from 5.1 ms to 1.4.
    """
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(_M_MMAP_THRESHOLD, 32 * _MIB)  # the most that glibc takes
        _libc.mallopt(_M_TRIM_THRESHOLD, 256 * _MIB)
        _libc.mallopt(_M_TOP_PAD, 64 * _MIB)
