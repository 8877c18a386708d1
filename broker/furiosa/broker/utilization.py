"""How much of a window each leased file was in use: two readings of its counters apart."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import pairwise
from typing import Final

from furiosa.common.names import DeviceFile
from furiosa.common.views import LeaseView, UtilizationView
from furiosa.sysfs import CounterReading, Utilisation, utilisation

# None: nothing to read there now
ReadCounters = Callable[
    [Sequence[DeviceFile]], Awaitable[Mapping[DeviceFile, CounterReading | None]]
]


STEP_SECONDS: Final = 2.0  # between readings: counters of 32 bits wrap after 4.3 s in use


async def measure(
    leases: Callable[[], Sequence[LeaseView]], read: ReadCounters, window: float
) -> tuple[UtilizationView, ...]:
    """Use of every file that is leased at both ends of a window of `window` seconds from now."""
    steps = max(1, math.ceil(window / STEP_SECONDS))
    readings = [await read(_files(leases()))]
    start = time.monotonic_ns()
    for _ in range(steps):
        await asyncio.sleep(window / steps)
        elapsed = time.monotonic_ns() - start
        still = leases()
        readings.append(await read(_files(still)))
    rows = (
        _use(file, [reading.get(file) for reading in readings], elapsed, lease)
        for lease in still
        for file in lease.device_files
        if file in readings[0]
    )
    return tuple(sorted(rows, key=lambda row: str(row.device_file)))


def _files(leases: Sequence[LeaseView]) -> list[DeviceFile]:
    return [file for lease in leases for file in lease.device_files]


def _use(
    file: DeviceFile,
    readings: Sequence[CounterReading | None],
    elapsed: int,
    lease: LeaseView,
) -> UtilizationView:
    npu, computation, io = _mean(
        [(utilisation(a, b), b.at_ns - a.at_ns) for a, b in pairwise(readings) if a and b]
    )
    return UtilizationView(
        device_file=file,
        window_ns=elapsed,
        npu_fraction=npu,
        computation_fraction=computation,
        io_fraction=io,
        pid=lease.owner.pid,
        command_line=lease.owner.command_line,
        observed_at_ns=time.time_ns(),
    )


def _mean(parts: Sequence[tuple[Utilisation, int]]) -> tuple[float, float, float]:
    """NPU, computation and I/O over parts of a window, each with its length."""
    total = sum(length for _, length in parts)
    busy = sum(use.npu * length for use, length in parts)
    if not busy:
        return 0.0, 0.0, 0.0
    computation = sum(use.npu * length * use.computation for use, length in parts) / busy
    return busy / total, computation, 1.0 - computation
