"""Bytes of log lines to a descriptor, without ever waiting for whoever reads them.

The descriptor is shared with other processes, so it is left blocking; it is written to only when `poll`
says there is room, and then no more than fits for certain.
"""

import asyncio
import os
import select
import threading
import time
from typing import Final

MAX_PENDING_BYTES: Final = 1024 * 1024  # of lines that nobody has taken
CHUNK_BYTES: Final = select.PIPE_BUF  # fits where poll sees room: in pipes, terminals and sockets
CLOSE_SECONDS: Final = 2.0  # for the reader to take the rest


class LogStream:
    """For any thread. In an event loop, lines leave together at the end of its turn; else at once.

    What a reader does not take is kept up to MAX_PENDING_BYTES; further lines are dropped and counted.
    """

    def __init__(self, fd: int) -> None:
        """`fd` stays yours."""
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._lock = threading.RLock()
        self._pending = bytearray()
        self._flushing: asyncio.AbstractEventLoop | None = None  # will call flush
        self._watching: asyncio.AbstractEventLoop | None = None  # will call it when there is room
        self._lost = 0
        self.dropped = 0  # lines, ever

    def write(self, line: bytes, *, now: bool = False) -> None:
        """`now`: it is worth a system call of its own."""
        with self._lock:
            if len(self._pending) + len(line) > MAX_PENDING_BYTES:
                self._lost += 1
                self.dropped += 1
                return
            self._pending += line
            loop = _running_loop()
            if now or loop is None:
                self.flush()
            elif self._flushing is not loop:
                self._flushing = loop
                loop.call_soon(self.flush)

    def take_lost(self) -> int:
        """How many lines were dropped since the last call; 0 while there is no room to tell."""
        if not self._lost or len(self._pending) > MAX_PENDING_BYTES // 2:
            return 0
        with self._lock:
            lost, self._lost = self._lost, 0
            return lost

    def flush(self) -> None:
        """Write what there is room for."""
        with self._lock:
            self._flushing = None
            while self._pending and self._write(0.0):
                pass
            loop = _running_loop()
            if self._pending and self._watching is None and loop is not None:
                self._watching = loop
                loop.add_writer(self._fd, self.flush)
            elif not self._pending and self._watching is loop and loop is not None:
                self._watching = None
                loop.remove_writer(self._fd)

    def close(self) -> None:
        """Give a reader that is slow a moment."""
        deadline = time.monotonic() + CLOSE_SECONDS
        with self._lock:
            while self._pending and self._write(max(0.0, deadline - time.monotonic())):
                pass

    def _write(self, seconds: float) -> bool:
        """False: there was no room in all this time."""
        if not self._poll.poll(seconds * 1000):
            return False
        end = self._pending.rfind(b"\n", 0, CHUNK_BYTES) + 1 or CHUNK_BYTES
        try:
            del self._pending[: os.write(self._fd, self._pending[:end])]
        except OSError:  # a full disk, or the reader has gone
            self.dropped += self._pending.count(b"\n")
            self._pending.clear()
        return True


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
