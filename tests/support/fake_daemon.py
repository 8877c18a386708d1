"""Stands in for `python -m furiosa.broker`: python -m support.fake_daemon SOCKET READY_FD.

Leaves a line in `starts` beside its socket for whoever counts: pid, session, parent and open files.
"""

import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from support.fake_broker import FakeBroker


def open_files() -> list[str]:
    links = []
    for fd in sorted(os.listdir("/proc/self/fd"), key=int):
        with suppress(FileNotFoundError):  # the listing itself
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
    return links


def main(path: str, ready_fd: int) -> None:
    files = open_files()
    signal.alarm(60)  # never outlives a test for long
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with FakeBroker(path):
        line = json.dumps({"pid": os.getpid(), "session": os.getsid(0), "files": files})
        with Path(path).with_name("starts").open("a") as file:
            file.write(line + "\n")
        os.write(ready_fd, b"READY\n")
        os.close(ready_fd)
        signal.pause()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
