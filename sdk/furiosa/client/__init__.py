"""Attach to a device broker: devices, leases, programs and queues. `sync` is the blocking twin."""

from typing import TYPE_CHECKING

from furiosa.common.on_use import on_use

if TYPE_CHECKING:
    from furiosa.client._async.connection import Connection
    from furiosa.client.address import Address, TcpAddress, UnixAddress
    from furiosa.client.snapshot import Snapshot
else:  # the blocking twin must not pay for an event loop's library, nor who imports a module for all
    __getattr__, __dir__ = on_use(
        __name__,
        {
            "Address": "address",
            "Connection": "_async.connection",
            "Snapshot": "snapshot",
            "TcpAddress": "address",
            "UnixAddress": "address",
        },
    )

__all__ = ["Address", "Connection", "Snapshot", "TcpAddress", "UnixAddress"]
