"""The socket to a broker: whole messages in and out, never blocking.

What the kernel does not take at once is kept and leaves with the next `flush`, so that a caller who is
cancelled in the middle of a message does not cut it in two.
"""

import atexit
import contextlib
import socket
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Final

from furiosa.common.channel import BrokenChannel, Decoder, Message, close_all, encode, receive, send

MAX_PAYLOAD: Final = 16 * 1024 * 1024  # bytes of one answer; a list of all leases has far less


class Ended(Exception):
    """The peer is gone; the text says how it went."""


class Stream:
    """Owns `sock` and every descriptor posted."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._fd = sock.fileno()
        _open.add(self)
        self._decoder = Decoder(MAX_PAYLOAD)
        self._unsent: deque[tuple[memoryview, Sequence[int]]] = deque()

    def fileno(self) -> int:
        return self._fd

    @property
    def has_unsent(self) -> bool:
        return bool(self._unsent)

    def post(self, payload: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send a message now or later. Its descriptors are closed when they have left."""
        self._unsent.append((memoryview(encode(payload, descriptors)), descriptors))
        self.flush()

    def flush(self) -> None:
        """Send what the socket takes. That the peer is gone shows when reading, after its last words."""
        try:
            while self._unsent:
                data, descriptors = self._unsent[0]
                sent = send(self._sock, data, descriptors)
                self._unsent[0] = (data[sent:], ())
                close_all(descriptors)
                if sent == len(data):
                    self._unsent.popleft()
        except BlockingIOError:
            return
        except OSError:
            self._drop_unsent()

    def receive(self) -> list[Message]:
        """The messages that have arrived; their descriptors are the caller's.

        Raises: BlockingIOError when there is nothing, Ended, BrokenChannel.
        """
        try:
            data, descriptors = receive(self._sock)
        except BlockingIOError:
            raise
        except OSError as exc:
            raise Ended(exc.strerror or str(exc)) from None
        if not data:
            raise Ended("it closed the connection")
        self._decoder.feed(data, descriptors)
        messages: list[Message] = []
        try:
            messages.extend(self._decoder.messages())
        except BrokenChannel:
            for message in messages:
                message.close()
            raise
        return messages

    def hang_up(self) -> None:
        """Wake whoever waits on the socket; its number stays taken until `close`."""
        with contextlib.suppress(OSError):  # the peer was faster
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._drop_unsent()
        self._decoder.close()
        self._sock.close()
        self._fd = -1
        _open.discard(self)

    def _drop_unsent(self) -> None:
        while self._unsent:
            close_all(self._unsent.popleft()[1])


_open: weakref.WeakSet[Stream] = weakref.WeakSet()


@atexit.register
def _leave_open() -> None:
    """The kernel closes what is open when the process ends: until then daemon threads may wait on it."""
    for stream in tuple(_open):
        stream._sock.detach()
