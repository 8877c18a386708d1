"""Attach to a device broker: devices, leases, programs and queues. `sync` is the blocking twin."""

from typing import TYPE_CHECKING

from furiosa.client.address import Address, TcpAddress, UnixAddress
from furiosa.client.snapshot import Snapshot

if TYPE_CHECKING:
    from furiosa.client._async.connection import Connection

__all__ = ["Address", "Connection", "Snapshot", "TcpAddress", "UnixAddress"]


def __getattr__(name: str) -> object:
    if name == "Connection":  # on use: the blocking twin must not pay for an event loop's library
        from furiosa.client._async.connection import Connection

        return Connection
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
