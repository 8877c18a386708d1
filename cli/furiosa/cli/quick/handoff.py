"""One question over the handoff socket. Source: docs/wire.md."""

from __future__ import annotations

import array
import os
import socket

from furiosa.cli.quick.protobuf import fields, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

SECONDS: Final = 10.0  # as the whole client waits for an answer
MAX_PAYLOAD: Final = 16 << 20
_HEADER: Final = 5  # payload length, little endian, and the number of descriptors
_DESCRIPTORS: Final = 16
# numbers of fields
_ID, _HELLO, _WELCOME, _CALL, _REPLY = 1, 2, 3, 4, 5
_ORIGIN: Final = 6


def ask(path: str, method: str) -> tuple[int, bytes] | None:
    """Number of the origin of the broker's devices, and its response. None: there is none, for any reason."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(SECONDS)
            sock.connect(f"{path}.handoff")
            _send(sock, text(_HELLO, b"\x08\x01" + text(2, b"furiosactl")))
            welcome = dict(fields(_receive(sock))).get(_WELCOME)
            _send(sock, b"\x08\x01" + text(_CALL, text(1, method.encode())))
            frame = dict(fields(_receive(sock)))
    except (OSError, ValueError):
        return None
    reply = frame.get(_REPLY)
    if not isinstance(welcome, bytes) or not isinstance(reply, bytes) or frame.get(_ID) != 1:
        return None
    origin = dict(fields(welcome)).get(_ORIGIN, 0)
    response = dict(fields(reply)).get(1, b"")
    return (origin, response) if isinstance(origin, int) and isinstance(response, bytes) else None


def _send(sock: socket.socket, frame: bytes) -> None:
    sock.sendall(len(frame).to_bytes(4, "little") + b"\0" + frame)


def _receive(sock: socket.socket) -> bytes:
    """Raises: ValueError, OSError."""
    room = socket.CMSG_SPACE(_DESCRIPTORS * 4)
    header, ancillary, _, _ = sock.recvmsg(_HEADER, room, socket.MSG_CMSG_CLOEXEC)
    for _, _, content in ancillary:
        for descriptor in array.array("i", content):  # the death notice is for longer sessions
            os.close(descriptor)
    header += _exactly(sock, _HEADER - len(header))
    length = int.from_bytes(header[:4], "little")
    if length > MAX_PAYLOAD:
        raise ValueError(f"a message of {length} bytes")
    return _exactly(sock, length)


def _exactly(sock: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = sock.recv(length - len(data))
        if not more:
            raise ValueError("the broker hung up")
        data += more
    return data
