"""How much of a window each leased file was in use: two readings of its counters apart."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from furiosa.broker.devices import CounterReading, utilisation
from furiosa.common.names import DeviceFile
from furiosa.common.views import LeaseView, UtilizationView

# None: nothing to read there now
ReadCounters = Callable[
    [Sequence[DeviceFile]], Awaitable[Mapping[DeviceFile, CounterReading | None]]
]


async def measure(
    leases: Callable[[], Sequence[LeaseView]], read: ReadCounters, window: float
) -> tuple[UtilizationView, ...]:
    """Use of every file that is leased at both ends of a window of `window` seconds from now."""
    before = await read(_files(leases()))
    start = time.monotonic_ns()
    await asyncio.sleep(window)
    elapsed = time.monotonic_ns() - start
    still = leases()
    after = await read(_files(still))
    rows = (
        _use(file, before[file], after.get(file), elapsed, lease)
        for lease in still
        for file in lease.device_files
        if file in before
    )
    return tuple(sorted(rows, key=lambda row: str(row.device_file)))


def _files(leases: Sequence[LeaseView]) -> list[DeviceFile]:
    return [file for lease in leases for file in lease.device_files]


def _use(
    file: DeviceFile,
    older: CounterReading | None,
    newer: CounterReading | None,
    elapsed: int,
    lease: LeaseView,
) -> UtilizationView:
    use = None if older is None or newer is None else utilisation(older, newer)
    return UtilizationView(
        device_file=file,
        window_ns=elapsed,
        npu_fraction=use.npu if use else 0.0,
        computation_fraction=use.computation if use else 0.0,
        io_fraction=use.io if use else 0.0,
        pid=lease.owner.pid,
        command_line=lease.owner.command_line,
        observed_at=time.time(),
    )
