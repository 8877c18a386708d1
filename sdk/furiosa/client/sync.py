"""The blocking twin of `furiosa.client`; any number of threads may share a connection."""

from furiosa.client._sync.connection import Connection
from furiosa.client.address import Address, TcpAddress, UnixAddress
from furiosa.client.snapshot import Snapshot

__all__ = ["Address", "Connection", "Snapshot", "TcpAddress", "UnixAddress"]
