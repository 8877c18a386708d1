"""What a process that talks to strangers gives up, for good. It concerns the whole process."""

import ctypes
import os
import pwd
import resource
from typing import Final

_libc: Final = ctypes.CDLL(None, use_errno=True)
_PR_SET_NO_NEW_PRIVS: Final = 38  # Source: Linux, include/uapi/linux/prctl.h


def drop(user: str) -> None:
    """Become `user` if this process is root; either way never gain privileges again, nor dump core.

    Raises: ValueError when there is no such user; OSError.
    """
    if os.geteuid() == 0:
        try:
            entry = pwd.getpwnam(user)
        except KeyError:
            raise ValueError(f"there is no user {user!r}") from None
        os.setgroups([])
        os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
        os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)  # capabilities go with it
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold what clients sent
