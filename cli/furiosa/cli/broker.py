"""The broker as the commands see it, and the way to it."""

from collections.abc import Callable
from typing import Protocol

from furiosa.common.views import DeviceView, Origin, ProcessView


class Broker(Protocol):
    """The part of `furiosa.client.sync.Connection` that the commands use."""

    @property
    def origin(self) -> Origin: ...

    def devices(self) -> tuple[DeviceView, ...]: ...

    def processes(self) -> tuple[ProcessView, ...]: ...

    def close(self) -> None: ...


Connect = Callable[[str | None], Broker]


def connect(address: str | None) -> Broker:
    """The broker at `address`; None: the one the SDK would use, which may start the user's own.

    Raises: FuriosaError.
    """
    # imported on use: `furiosactl version` and `--help` need no client
    from furiosa.client.address import Address

    where = None if address is None else Address.parse(address, "--broker")

    from furiosa.client.sync import Connection

    return Connection.open(where, client="furiosactl")
