"""The session's end of the bridge: a socket that knows why there is no more to read."""

import errno
import socket
from typing import Any


class Ear(socket.socket):
    def __init__(self, sock: socket.socket) -> None:
        """Takes `sock`."""
        super().__init__(fileno=sock.detach())
        self._cause = ""

    def hear(self, cause: str) -> None:
        """Before the other end is closed: what to say then instead of "it closed the connection"."""
        self._cause = cause

    def recvmsg(self, *arguments: Any) -> Any:
        received = super().recvmsg(*arguments)
        if not received[0] and self._cause:
            raise OSError(errno.ECONNRESET, self._cause)
        return received
