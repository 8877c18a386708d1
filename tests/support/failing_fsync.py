"""A broker whose disk takes nothing as long as a file exists: failing_fsync.py FILE, then as the broker."""

import errno
import os
import sys

from furiosa.broker.daemon import main
from furiosa.broker.journal import Files


def fsync(self: Files, fd: int) -> None:
    if os.path.exists(FILE):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    os.fdatasync(fd)


if __name__ == "__main__":
    FILE = sys.argv.pop(1)
    Files.fsync = fsync  # type: ignore[method-assign]
    raise SystemExit(main())
