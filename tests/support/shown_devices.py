"""Devices and processes as a broker shows them, and such a broker without a process behind it."""

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, replace
from typing import TypeVar

from furiosa.client.snapshot import Snapshot
from furiosa.common.faults import Fault, FaultView
from furiosa.common.names import DeviceFile
from furiosa.common.reservations import GrantsView, ReservationView
from furiosa.common.views import (
    Architecture,
    CoreState,
    CoreView,
    DeviceView,
    Health,
    LeaseOverview,
    LeaseState,
    LeaseView,
    Origin,
    OwnerView,
    ProcessView,
    UtilizationView,
)

_T = TypeVar("_T")


def a_device(index: int = 1, **changes: object) -> DeviceView:
    """The card of the published samples."""
    fields: dict[str, object] = {
        "index": index,
        "architecture": Architecture.WARBOY,
        "origin": Origin.HARDWARE,
        "health": Health.ALIVE,
        "uuid": "00000000-0000-0000-0000-000000000000",
        "serial_number": "WBYB0000000000000",
        "firmware_version": "1.6.0, 3c10fd3",
        "driver_version": "1.4.0, a1b2c3d",
        "pci_bdf": "0000:44:00.0",
        "pci_dev": "511:0",
        "numa_node": 0,
        "temperature_millicelsius": 54_000,
        "power_microwatts": 990_000,
        "cores": tuple(CoreView(core, CoreState.AVAILABLE) for core in (0, 1)),
        "device_files": tuple(
            DeviceFile.parse(f"npu{index}{cores}") for cores in ("", "pe0", "pe1", "pe0-1")
        ),
    }
    return DeviceView(**{**fields, **changes})  # type: ignore[arg-type]  # a builder: fields by name


def a_process(
    device_file: str = "npu0pe0-1",
    pid: int = 132529,
    command_line: str = "/usr/bin/python3 /usr/local/bin/uvicorn image_classify:app",
) -> ProcessView:
    return ProcessView(DeviceFile.parse(device_file), pid, command_line, lease_id="l")


def a_lease(id: str = "5f3a", **changes: object) -> LeaseView:
    fields: dict[str, object] = {
        "device_files": (DeviceFile.parse("npu0pe0-1"),),
        "state": LeaseState.GRANTED,
        "owner": OwnerView(4242, 1000, 1000, 77, "python3 app.py"),
        "granted_at": 1_000_000.0,
        "tenant": "uid:1000",
    }
    return LeaseView(id, **{**fields, **changes})  # type: ignore[arg-type]  # as `a_device`


@dataclass
class ShownBroker:
    """Answers what it was given, or raises `error`; remembers how it was reached and told to do."""

    held: tuple[DeviceView, ...] = ()
    running: tuple[ProcessView, ...] = ()
    origin: Origin = Origin.HARDWARE
    states: Sequence[LeaseOverview] = (LeaseOverview((), (), 1),)
    standing: tuple[FaultView, ...] = ()
    reserved: tuple[ReservationView, ...] = ()
    used: tuple[UtilizationView, ...] = ()
    error: BaseException | None = None  # of a watch: after its states
    asked_at: list[str | None] = field(default_factory=list)
    done: list[tuple[object, ...]] = field(default_factory=list)
    closed: int = 0

    def connect(self, address: str | None) -> "ShownBroker":
        self.asked_at.append(address)
        return self

    def devices(self) -> tuple[DeviceView, ...]:
        if self.error is not None:
            raise self.error
        return self.held

    def processes(self) -> tuple[ProcessView, ...]:
        return self.running

    def watch_devices(self) -> AbstractContextManager[Iterator[Snapshot[DeviceView]]]:
        return closing(self._snapshots(self.held))

    def watch_processes(self) -> AbstractContextManager[Iterator[Snapshot[ProcessView]]]:
        return closing(self._snapshots(self.running))

    def _snapshots(self, items: tuple[_T, ...]) -> Generator[Snapshot[_T]]:
        """With one item after another, the last one twice."""
        for revision in range(len(items) + 2):
            yield Snapshot(revision, items[:revision])
        if self.error is not None:
            raise self.error

    def utilization(self, window_ms: int = 1000) -> tuple[UtilizationView, ...]:
        self._do("utilization", window_ms)
        return self.used

    def overview(self) -> LeaseOverview:
        return self.states[0]

    def watch_leases(self) -> AbstractContextManager[Iterator[LeaseOverview]]:
        return closing(self._told())

    def _told(self) -> Generator[LeaseOverview]:
        yield from self.states
        if self.error is not None:
            raise self.error

    def revoke(self, lease_id: str, grace: float | None = None, reason: str = "") -> LeaseView:
        self._do("revoke", lease_id, grace, reason)
        (lease,) = (lease for lease in self.overview().leases if lease.id == lease_id)
        return replace(lease, state=LeaseState.RECALLED, cause=reason)

    def cordon(self, npu: int, reason: str = "") -> None:
        self._do("cordon", npu, reason)

    def uncordon(self, npu: int) -> None:
        self._do("uncordon", npu)

    def drain(self, npu: int, grace: float | None = None, reason: str = "") -> int:
        self._do("drain", npu, grace, reason)
        return len(self.overview().leases)

    def reservations(self) -> tuple[ReservationView, ...]:
        return self.reserved

    def cancel_reservation(self, reservation_id: str) -> None:
        self._do("unreserve", reservation_id)

    def grants(self) -> GrantsView:
        return GrantsView("/var/lib/furiosa/grants", "/run/furiosa/broker.sock")

    def emulate(self, file: DeviceFile, fault: Fault, seconds: float | None = None) -> FaultView:
        self._do("emulate", str(file), fault, seconds)
        return FaultView(file, fault, None if seconds is None else time.time() + seconds)

    def clear_faults(self, npu: int | None = None) -> int:
        self._do("clear", npu)
        return len(self.standing)

    def faults(self) -> tuple[FaultView, ...]:
        return self.standing

    def _do(self, *what: object) -> None:
        if self.error is not None:
            raise self.error
        self.done.append(what)

    def reopen(self, *, client: str) -> "ShownBroker":
        return self

    def close(self) -> None:
        self.closed += 1
