"""Who a worker is, and that it can never become more: user, capabilities, no way to new ones."""

import ctypes
import errno
import os
from typing import Final

from furiosa.broker.workers.linux import check, libc, prctl

# Source: Linux, include/uapi/linux/{prctl,capability,securebits}.h
_PR_SET_DUMPABLE: Final = 4
_PR_CAPBSET_DROP: Final = 24
_PR_SET_SECUREBITS: Final = 28
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_CAPABILITY_VERSION_3: Final = 0x2008_0522
_CAPABILITY_SETS_BYTES: Final = 24
_MAX_CAPABILITIES: Final = 64
# NOROOT, NO_SETUID_FIXUP and NO_CAP_AMBIENT_RAISE, set and locked; KEEP_CAPS clear and locked
_SECUREBITS: Final = 0x01 | 0x02 | 0x04 | 0x08 | 0x20 | 0x40 | 0x80


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


def forbid_capabilities() -> None:
    """No program run from here on has any, not even as root. Raises: OSError, typically EPERM."""
    for capability in range(_MAX_CAPABILITIES):
        try:
            prctl(_PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno == errno.EINVAL:  # this kernel has no more
                break
            raise
    prctl(_PR_SET_SECUREBITS, _SECUREBITS)


def become(uid: int, gid: int) -> None:
    """All of user and group ids, and no other group. Raises: OSError."""
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def give_up_privileges() -> None:
    """Empty all capability sets, rule out new ones, and close /proc/<pid> to others of the same user.

    Raises: OSError.
    """
    prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = _Header(_CAPABILITY_VERSION_3, 0)
    check(libc.capset(ctypes.byref(header), bytes(_CAPABILITY_SETS_BYTES)))
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    prctl(_PR_SET_DUMPABLE, 0)
