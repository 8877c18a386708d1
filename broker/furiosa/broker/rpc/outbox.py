"""What waits to be written to a client: frames, and the descriptors that go with them."""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Final

from furiosa.broker.rpc.left import Parcel
from furiosa.common import channel
from furiosa.common.channel import close_all

MAX_BYTES: Final = 4 * 1024 * 1024
MAX_DESCRIPTORS: Final = 256


class Outbox:
    """Writes to `sock`, which stays the caller's. `on_broken` hears why no more can be written: at once
    when the client does not read, in the loop's next turn when the connection is gone.
    """

    def __init__(self, sock: socket.socket, on_broken: Callable[[str], None]) -> None:
        self._sock = sock
        self._on_broken = on_broken
        self._unsent: deque[tuple[memoryview, list[int]]] = deque()
        self._bytes = 0
        self._descriptors = 0
        self._waits = False  # for the socket to take more
        self._loop = asyncio.get_running_loop()

    @property
    def held(self) -> tuple[int, int]:
        """Bytes and descriptors."""
        return self._bytes, self._descriptors

    def put(self, data: bytes, descriptors: list[int]) -> None:
        """Write now or later; takes the descriptors."""
        self._add(data, descriptors)
        if self._bytes > MAX_BYTES or self._descriptors > MAX_DESCRIPTORS:
            held = f"{self._bytes} bytes and {self._descriptors} descriptors"
            self._on_broken(f"{held} of answers were never read")
        elif not self._waits:
            self._flush()

    def take(self) -> list[Parcel]:
        """All of it, for a successor; nothing is written any more."""
        self._loop.remove_writer(self._sock)
        return [(bytes(data), descriptors) for data, descriptors in self._unsent]

    def restore(self, parcels: list[Parcel]) -> None:
        """What another broker process `take`s from its own; takes the descriptors."""
        for parcel in parcels:
            self._add(*parcel)
        self._flush()

    def close(self) -> None:
        self._loop.remove_writer(self._sock)
        while self._unsent:
            close_all(self._unsent.popleft()[1])

    def _add(self, data: bytes, descriptors: list[int]) -> None:
        self._unsent.append((memoryview(data), descriptors))
        self._bytes += len(data)
        self._descriptors += len(descriptors)

    def _flush(self) -> None:
        try:
            while self._unsent:
                data, descriptors = self._unsent[0]
                sent = channel.send(self._sock, data, descriptors)
                self._unsent[0] = (data[sent:], [])
                self._bytes -= sent
                self._descriptors -= len(descriptors)
                close_all(descriptors)
                if sent == len(data):
                    self._unsent.popleft()
            if self._waits:
                self._waits = False
                self._loop.remove_writer(self._sock)
        except (BlockingIOError, InterruptedError):
            self._waits = True
            self._loop.add_writer(self._sock, self._flush)
        except OSError as exc:
            # whoever puts may be in the middle of this client's work
            self._loop.call_soon(self._on_broken, str(exc))
