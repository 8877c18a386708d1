"""The broker as the commands see it, and the way to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, cast

from furiosa.cli.starting import starting

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from furiosa.client.snapshot import Snapshot
    from furiosa.common.faults import Fault, FaultView
    from furiosa.common.names import DeviceFile
    from furiosa.common.reservations import GrantsView, ReservationView
    from furiosa.common.views import (
        DeviceView,
        LeaseOverview,
        LeaseView,
        Origin,
        ProcessView,
        UtilizationView,
    )

ROOT: Final = Path("/")  # of the device tree


class Broker(Protocol):
    """The part of `furiosa.client.sync.Connection` that the commands use."""

    @property
    def origin(self) -> Origin: ...

    def devices(self) -> tuple[DeviceView, ...]: ...

    def watch_devices(self) -> AbstractContextManager[Iterator[Snapshot[DeviceView]]]: ...

    def processes(self) -> tuple[ProcessView, ...]: ...

    def watch_processes(self) -> AbstractContextManager[Iterator[Snapshot[ProcessView]]]: ...

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

    def reservations(self) -> tuple[ReservationView, ...]: ...

    def cancel_reservation(self, reservation_id: str) -> None: ...

    def grants(self) -> GrantsView: ...

    def reopen(self, *, client: str) -> Broker: ...

    def close(self) -> None: ...


CLIENT: Final = "furiosactl"  # in the broker's log
Connect = Callable[[str | None], Broker]


def connect(address: str | None) -> Broker:
    """The broker at `address`; None: the one the SDK would use, which may start the user's own. Where real
    cards are and no broker, the cards themselves are looked at.

    Raises: FuriosaError, OSError.
    """
    with starting():  # imported on use: `furiosactl version` and `--help` need no client
        from furiosa.client.address import SYSTEM, Address, from_environment

        if address is not None:
            where: Address | None = Address.parse(address, "--broker")
        else:
            where = from_environment(os.environ)
            if where is None and not os.path.exists(SYSTEM.path) and _has_cards(ROOT):
                from furiosa.cli.direct import Direct

                return cast("Broker", Direct(ROOT))  # it raises what it has not
        from furiosa.client.sync import Connection
    return Connection.open(where, client=CLIENT)


def _has_cards(root: Path) -> bool:
    from furiosa.sysfs import discover

    return bool(discover(root))
