"""Telemetry as the broker sees it: a listening socket, a process that serves it, and two answers.

HTTP is parsed in that process. The broker makes the socket, so that an address that cannot be had is known
at start, a chosen port keeps its number, and clients only wait while the process is started again.
"""

import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import BytesValue, StringValue

from furiosa.broker.helper_process import HelperProcess
from furiosa.broker.rpc.methods import Call, Unary

BACKLOG: Final = 128
_UNIX: Final = "unix:"


class Telemetry:
    """Takes `listener`. `numbers` is what `/metrics` shows, in the form that furiosa.telemetry.exposition
    reads; `unready` why nothing is granted now, or empty; `user` whom the process runs as.
    """

    def __init__(
        self,
        listener: socket.socket,
        user: str,
        numbers: Callable[[], Awaitable[bytes]],
        unready: Callable[[], str],
    ) -> None:
        self._listener = listener
        self._numbers = numbers
        self._unready = unready
        self._process = HelperProcess(
            "telemetry",
            "furiosa.telemetry",
            ("--listen-fd", str(listener.fileno()), "--user", user),
            {
                "Telemetry/Metrics": Unary(Empty, self._answer_numbers),
                "Telemetry/Unready": Unary(Empty, self._answer_unready),
            },
            inherited=(listener.fileno(),),
        )

    @property
    def address(self) -> str:
        """HOST:PORT, the port being the real one, or unix:PATH."""
        return address_of(self._listener)

    async def run(self) -> None:
        """Keep one running until cancelled."""
        await self._process.run()

    def close(self) -> None:
        """Stop listening; for the end."""
        name = self._listener.getsockname()
        self._listener.close()
        if isinstance(name, str):
            Path(name).unlink(missing_ok=True)

    async def _answer_numbers(self, request: Empty, call: Call) -> BytesValue:
        return BytesValue(value=await self._numbers())

    async def _answer_unready(self, request: Empty, call: Call) -> StringValue:
        return StringValue(value=self._unready())


def listen(address: str, mode: int) -> socket.socket:
    """A socket that listens at HOST:PORT, [IPv6]:PORT or unix:PATH, there with permissions `mode`.

    Port 0 is any free one. Raises: ValueError for anything else; OSError when it cannot be had.
    """
    if address.startswith(_UNIX):
        path = Path(address.removeprefix(_UNIX))
        path.unlink(missing_ok=True)  # left by a killed broker; the lock file says it is not in use
        before = os.umask(0o777 & ~mode)
        try:
            return _bound(socket.AF_UNIX, str(path))
        finally:
            os.umask(before)
    host, _, port = address.rpartition(":")
    with contextlib.suppress(ValueError):
        if host and 0 <= int(port) <= 65_535:
            family, _, _, _, name = socket.getaddrinfo(
                host.removeprefix("[").removesuffix("]"), int(port), type=socket.SOCK_STREAM
            )[0]
            return _bound(family, name)
    raise ValueError(f"{address!r} is no address, expected HOST:PORT, [IPV6]:PORT or unix:/PATH")


def address_of(listener: socket.socket) -> str:
    name = listener.getsockname()
    if isinstance(name, str):
        return f"{_UNIX}{name}"
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _bound(family: int, name: object) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(name)  # type: ignore[arg-type]  # as getaddrinfo gave it
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener
