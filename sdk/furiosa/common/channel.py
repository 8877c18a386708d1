"""Messages with file descriptors over a Unix stream socket.

A message is a header (4-byte little-endian payload length, 1-byte descriptor count) and the payload;
its descriptors leave with its first byte. Descriptors arrive in order but may come together with bytes
of a neighbour, so the decoder queues them and each header says how many are its own.

`Decoder` is pure; `receive` and `send` are the two system calls around it.
"""

import array
import os
import socket
import struct
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

HEADER: Final = struct.Struct("<IB")
MAX_DESCRIPTORS: Final = 16  # per message
_CUT_OFF: Final = int(socket.MSG_CTRUNC)  # an int: the enum's own & takes microseconds
_CHUNK: Final = 16 * 1024  # messages are small; a bigger buffer costs page faults at each call


class BrokenChannel(Exception):
    """The peer broke the framing rules; the connection is of no further use."""


@dataclass(frozen=True, slots=True)
class Message:
    """`descriptors` belong to whoever takes the message; `close` disposes of them."""

    payload: bytes
    descriptors: tuple[int, ...] = ()

    def close(self) -> None:
        close_all(self.descriptors)


class Decoder:
    """Bytes and descriptors in, messages out. `close` disposes of descriptors nobody took."""

    def __init__(self, max_payload: int) -> None:
        self._max_payload = max_payload
        self._buffer = bytearray()
        self._descriptors: deque[int] = deque()

    def feed(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        self._buffer += data
        self._descriptors.extend(descriptors)

    def messages(self) -> Iterator[Message]:
        """Raises: BrokenChannel for an oversized payload or for descriptors that never came."""
        while len(self._buffer) >= HEADER.size:
            length, count = HEADER.unpack_from(self._buffer)
            if length > self._max_payload:
                raise BrokenChannel(f"a message of {length} bytes, at most {self._max_payload}")
            if count > MAX_DESCRIPTORS:
                raise BrokenChannel(
                    f"{count} descriptors in one message, at most {MAX_DESCRIPTORS}"
                )
            end = HEADER.size + length
            if len(self._buffer) < end:
                return
            if len(self._descriptors) < count:
                raise BrokenChannel(f"{count} descriptors announced, {len(self._descriptors)} came")
            payload = bytes(self._buffer[HEADER.size : end])
            del self._buffer[:end]
            yield Message(payload, tuple(self._descriptors.popleft() for _ in range(count)))
        if not self._buffer and self._descriptors:
            raise BrokenChannel(f"{len(self._descriptors)} descriptors nobody announced")

    @property
    def has_some(self) -> bool:
        """Whether there are bytes of a message, whole or not."""
        return bool(self._buffer)

    @property
    def held(self) -> tuple[int, int]:
        """Bytes and descriptors that `take_rest` would take."""
        return len(self._buffer), len(self._descriptors)

    def take_rest(self) -> tuple[bytes, list[int]]:
        """What has come of messages that are not whole yet; the descriptors are yours."""
        rest = bytes(self._buffer), list(self._descriptors)
        self._buffer.clear()
        self._descriptors.clear()
        return rest

    def close(self) -> None:
        close_all(self._descriptors)
        self._descriptors.clear()


def close_all(descriptors: Iterable[int]) -> None:
    for fd in descriptors:
        os.close(fd)


def encode(payload: bytes, descriptors: Sequence[int] = ()) -> bytes:
    return HEADER.pack(len(payload), len(descriptors)) + payload


def receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """One recvmsg: bytes and descriptors (close-on-exec, yours to close); b"" is the end of the stream."""
    room = socket.CMSG_SPACE(MAX_DESCRIPTORS * 4)
    data, ancillary, flags, _ = sock.recvmsg(_CHUNK, room, socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    if flags & _CUT_OFF:
        close_all(descriptors)
        raise BrokenChannel("descriptors were cut off")
    return data, list(descriptors)


def send(sock: socket.socket, data: bytes | memoryview, descriptors: Sequence[int] = ()) -> int:
    """One sendmsg of encoded bytes; how many left. Descriptors go with the first byte, exactly once."""
    if not descriptors:
        return sock.send(data)
    rights = array.array("i", descriptors)
    return sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
