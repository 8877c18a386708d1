"""What a worker writes to stderr: events of the broker's log, and not more of them than a log can bear.

A worker speaks for a program, so it gets neither the broker's stderr, which may be a file to truncate,
nor as many lines as it likes.
"""

import asyncio
import logging
import os
from typing import Final

from furiosa.broker.log import event

_log = logging.getLogger(__name__)

CHUNK_BYTES: Final = 4096  # one write of up to so many bytes arrives in one piece
MAX_EVENTS: Final = 20  # in WINDOW_SECONDS, of one worker
WINDOW_SECONDS: Final = 60.0


class Stderr:
    """The reading end of a worker's stderr, which it takes."""

    def __init__(self, fd: int, device: str) -> None:
        self._fd = fd
        self._device = device
        self._loop = asyncio.get_running_loop()
        self._open = True
        self._window_ends = 0.0
        self._events = 0
        self._dropped = 0  # bytes
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self._read)

    def close(self) -> None:
        """Once its worker is dead: nothing more can come than what is there."""
        while self._open and self._read():
            pass
        self._end()

    def _read(self) -> bool:
        """False when there was nothing."""
        try:
            data = os.read(self._fd, CHUNK_BYTES)
        except BlockingIOError:
            return False
        if data:
            self._said(data)
        else:
            self._end()
        return bool(data)

    def _said(self, data: bytes) -> None:
        now = self._loop.time()
        if now >= self._window_ends:
            self._tell_dropped()
            self._window_ends, self._events = now + WINDOW_SECONDS, 0
        if self._events >= MAX_EVENTS:
            self._dropped += len(data)
            return
        self._events += 1
        text = data.decode("ascii", "backslashreplace").rstrip("\n")
        event(_log, "worker.said", logging.WARNING, device=self._device, text=text)

    def _tell_dropped(self) -> None:
        if self._dropped:
            event(
                _log,
                "worker.said_too_much",
                logging.WARNING,
                device=self._device,
                dropped_bytes=self._dropped,
            )
            self._dropped = 0

    def _end(self) -> None:
        if self._open:
            self._open = False
            self._tell_dropped()
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
