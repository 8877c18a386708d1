"""`python -m support.nonroot [--without-namespaces] -m MODULE ...`: run it as an ordinary user.

The user is no. 1000 of a user namespace, without any capability, and is who runs this outside of it, so
that every file can be read as before.
"""

import os
import sys
from pathlib import Path

from furiosa.broker.workers import linux


def main(arguments: list[str]) -> None:
    uid, gid = os.geteuid(), os.getegid()
    linux.unshare(linux.CLONE_NEWUSER)
    own = Path("/proc/self")
    (own / "setgroups").write_text("deny")
    (own / "uid_map").write_text(f"1000 {uid} 1")
    (own / "gid_map").write_text(f"1000 {gid} 1")
    if arguments[0] == "--without-namespaces":
        Path("/proc/sys/user/max_user_namespaces").write_text("0")  # in this one
        arguments = arguments[1:]
    os.execv(sys.executable, [sys.executable, *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
