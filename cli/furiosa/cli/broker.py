"""The broker as the commands see it, and the way to it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Final, Protocol

from furiosa.cli.starting import starting
from furiosa.common.faults import Fault, FaultView
from furiosa.common.names import DeviceFile
from furiosa.common.views import (
    DeviceView,
    LeaseOverview,
    LeaseView,
    Origin,
    ProcessView,
    UtilizationView,
)


class Broker(Protocol):
    """The part of `furiosa.client.sync.Connection` that the commands use."""

    @property
    def origin(self) -> Origin: ...

    def devices(self) -> tuple[DeviceView, ...]: ...

    def processes(self) -> tuple[ProcessView, ...]: ...

    def utilization(self, window_ms: int = 1000) -> tuple[UtilizationView, ...]: ...

    def overview(self) -> LeaseOverview: ...

    def watch_leases(self) -> AbstractContextManager[Iterator[LeaseOverview]]: ...

    def revoke(self, lease_id: str, grace: float | None = None, reason: str = "") -> LeaseView: ...

    def cordon(self, npu: int, reason: str = "") -> None: ...

    def uncordon(self, npu: int) -> None: ...

    def drain(self, npu: int, grace: float | None = None, reason: str = "") -> int: ...

    def emulate(
        self, file: DeviceFile, fault: Fault, seconds: float | None = None
    ) -> FaultView: ...

    def clear_faults(self, npu: int | None = None) -> int: ...

    def faults(self) -> tuple[FaultView, ...]: ...

    def reopen(self, *, client: str) -> "Broker": ...

    def close(self) -> None: ...


CLIENT: Final = "furiosactl"  # in the broker's log
Connect = Callable[[str | None], Broker]


def connect(address: str | None) -> Broker:
    """The broker at `address`; None: the one the SDK would use, which may start the user's own.

    Raises: FuriosaError.
    """
    # imported on use: `furiosactl version` and `--help` need no client
    from furiosa.client.address import Address

    where = None if address is None else Address.parse(address, "--broker")

    with starting():
        from furiosa.client.sync import Connection

    return Connection.open(where, client=CLIENT)
