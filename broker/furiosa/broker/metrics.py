"""What an operator's monitoring sees of the broker: counters kept here, gauges read when asked for.

Plain numbers, since the hot path counts, too. They leave as JSON for the telemetry process, which alone
knows how Prometheus wants them: writing them out would cost this process's loop ten times as much, and
a library made to talk to strangers does not belong into it. docs/metrics.md is the list for people.
"""

import asyncio
import bisect
import contextlib
import itertools
import json
import os
import platform
import resource
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from furiosa.common.build import VERSION
from furiosa.common.names import DeviceFile
from furiosa.common.views import Availability, CoreState, DeviceView, Health, LeaseState

PREFIX: Final = "furiosa_broker_"
MAX_TENANTS: Final = 64  # the first ones; others are OTHER, or each would cost series for ever
OTHER: Final = "other"
SENSOR_SECONDS: Final = 0.5  # for all cards; those of a stuck driver are left out

# Upper bounds in seconds. An uncontended grant takes less than a millisecond, a queue may take hours.
WAITS: Final = (1e-4, 3e-4, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 300, 900, 3600)
HOLDS: Final = (0.01, 0.1, 1, 10, 60, 300, 900, 3600, 14_400, 86_400, 604_800)
FSYNCS: Final = (1e-4, 3e-4, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)

Family = tuple[str, str, str, Sequence[str], Sequence[object]]  # see furiosa.telemetry.exposition
Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Gauges:
    """Where the present state is read, each time somebody asks for it."""

    leases: Callable[[], Iterable[tuple[str, LeaseState, int]]]  # tenant, state, cores
    waiting: Callable[[], Iterable[str]]  # the tenant of each request in the queue
    devices: Callable[[], Awaitable[Iterable[DeviceView]]]
    core_seconds: Callable[[], Mapping[tuple[int, int], float]]  # by card and core; see core_time
    sessions: Callable[[], int]
    journal_bytes: Callable[[], int]
    dropped_log_lines: Callable[[], int]
    card_errors: Callable[[], Mapping[tuple[int, str], int]]  # by card and kind


class Metrics:
    """Counts since the process started. Methods must be called in the event loop's thread."""

    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges
        self._started = time.time()
        self._build = VERSION.version, platform.python_version()
        self._tenants: dict[str, str] = {}  # each tenant's label
        self._grants: Counter[str] = Counter()
        self._refusals: Counter[str] = Counter()
        self._ends: Counter[str] = Counter()
        self._deaths: Counter[str] = Counter()
        self._waits = _Histogram(WAITS)
        self._holds = _Histogram(HOLDS)
        self._fsyncs = _Histogram(FSYNCS)
        self._devices: asyncio.Future[Iterable[DeviceView]] | None = None  # being read

    def granted(self, tenant: str, waited: float) -> None:
        """`waited` in seconds, from the request's arrival; 0 or little when it did not have to wait."""
        self._grants[self._label(tenant)] += 1
        self._waits.observe(waited)

    def refused(self, reason: str) -> None:
        """`reason` is one of a fixed set: the reason of the error that the client got."""
        self._refusals[reason] += 1

    def ended(self, cause: str, held: float) -> None:
        """`cause` is one of a fixed set, e.g. "released"; `held` in seconds, from the grant."""
        self._ends[cause] += 1
        self._holds.observe(held)

    def worker_died(self, file: DeviceFile) -> None:
        self._deaths[str(file)] += 1

    def journal_synced(self, seconds: float) -> None:
        self._fsyncs.observe(seconds)

    async def numbers(self) -> bytes:
        """All of them, in the form of furiosa.telemetry.exposition. Bounded."""
        devices = await self._read_devices()
        process = await asyncio.to_thread(_process, self._started)
        families = (*self._counted(), *self._held(), *_cards(devices), *process)
        return json.dumps(families, separators=(",", ":")).encode()

    def _label(self, tenant: str) -> str:
        label = self._tenants.get(tenant)
        if label is None:
            if len(self._tenants) >= MAX_TENANTS:
                return OTHER
            label = self._tenants[tenant] = tenant
        return label

    async def _read_devices(self) -> Iterable[DeviceView]:
        """Empty while the reading takes too long; a reading that hangs is not joined by a second one."""
        if self._devices is None:
            self._devices = asyncio.ensure_future(self._gauges.devices())
        reading = self._devices
        done, _ = await asyncio.wait((reading,), timeout=SENSOR_SECONDS)
        if not done:
            return ()
        self._devices = None
        return reading.result()

    def _counted(self) -> Iterator[Family]:
        yield _counter("grants", "Leases granted", ("tenant",), _one(self._grants))
        yield _counter("refusals", "Requests that were refused", ("reason",), _one(self._refusals))
        yield _counter("ended", "Leases that ended", ("cause",), _one(self._ends))
        yield _counter(
            "worker_restarts", "Workers that died in a lease", ("device",), _one(self._deaths)
        )
        yield self._waits.family("grant_wait_seconds", "From a request to its grant")
        yield self._holds.family("lease_held_seconds", "From a grant to the lease's end")
        yield self._fsyncs.family("journal_fsync_seconds", "For the disk to have a record")
        dropped = self._gauges.dropped_log_lines()
        yield _counter("log_dropped_lines", "Log lines that nobody took", (), {(): dropped})

    def _held(self) -> Iterator[Family]:
        leases: Counter[Labels] = Counter()
        cores: Counter[Labels] = Counter()
        waiting: Counter[Labels] = Counter()
        for tenant, state, width in self._gauges.leases():
            label = self._label(tenant)
            leases[state.value, label] += 1
            cores[label,] += width
        for tenant in self._gauges.waiting():
            waiting[self._label(tenant),] += 1
        busy: dict[Labels, float] = {
            (str(npu), str(core)): seconds
            for (npu, core), seconds in self._gauges.core_seconds().items()
        }
        yield _gauge("leases", "Leases that have not ended", ("state", "tenant"), leases)
        yield _gauge("lease_cores", "Cores in leases", ("tenant",), cores)
        yield _gauge("waiters", "Requests in the queue", ("tenant",), waiting)
        errors: dict[Labels, float] = {
            (str(npu), kind): count for (npu, kind), count in self._gauges.card_errors().items()
        }
        yield _counter("card_errors", "As the card counts them", ("npu", "kind"), errors)
        yield _counter("core_busy_seconds", "Time in programs", ("npu", "core"), busy)
        yield _gauge("sessions", "Clients that are connected", (), {(): self._gauges.sessions()})
        size = self._gauges.journal_bytes()
        yield _gauge("journal_bytes", "Size of the journal", (), {(): size})
        yield _gauge("build_info", "Always 1", ("version", "python"), {self._build: 1})


class _Histogram:
    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect.bisect_left(self._bounds, value)] += 1
        self._sum += value

    def family(self, name: str, text: str) -> Family:
        bounds = (*map(str, self._bounds), "+Inf")
        buckets = list(zip(bounds, itertools.accumulate(self._counts), strict=True))
        return (PREFIX + name, "histogram", text, (), [((), buckets, self._sum)])


def _cards(devices: Iterable[DeviceView]) -> Iterator[Family]:
    available: dict[Labels, float] = {}
    celsius: dict[Labels, float] = {}
    watts: dict[Labels, float] = {}
    cores: dict[Labels, float] = dict.fromkeys(((state.value,) for state in CoreState), 0)
    for device in devices:
        npu = (str(device.index),)
        usable = device.health is Health.ALIVE and device.availability is Availability.AVAILABLE
        available[npu] = int(usable)
        if device.temperature_millicelsius is not None:
            celsius[npu] = device.temperature_millicelsius / 1e3
        if device.power_microwatts is not None:
            watts[npu] = device.power_microwatts / 1e6
        for core in device.cores:
            cores[core.state.value,] += 1
    if available:
        yield _gauge("cores", "Cores of all cards", ("state",), cores)
    yield _gauge("card_available", "1: it can be leased", ("npu",), available)
    yield _gauge("card_temperature_celsius", "As its sensor says", ("npu",), celsius)
    yield _gauge("card_power_watts", "As its sensor says", ("npu",), watts)


def _process(started: float) -> tuple[Family, ...]:
    """The names that every Prometheus client library uses for these."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    values = [
        ("cpu_seconds", "counter", "User and system time", used.ru_utime + used.ru_stime),
        ("max_fds", "gauge", "Most there may be", resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        ("start_time_seconds", "gauge", "Start, since the epoch", started),
    ]
    with contextlib.suppress(
        OSError
    ):  # no descriptor left to look with; then the rest matters more
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        memory = pages * resource.getpagesize()
        values.append(("resident_memory_bytes", "gauge", "Resident memory", memory))
        count = len(os.listdir("/proc/self/fd")) - 1  # not the one it is listed through
        values.append(("open_fds", "gauge", "Open descriptors", count))
    return tuple((f"process_{name}", kind, text, (), [((), n)]) for name, kind, text, n in values)


def _counter(name: str, text: str, labels: Sequence[str], values: Mapping[Labels, float]) -> Family:
    return (PREFIX + name, "counter", text, labels, list(values.items()))


def _gauge(name: str, text: str, labels: Sequence[str], values: Mapping[Labels, float]) -> Family:
    return (PREFIX + name, "gauge", text, labels, list(values.items()))


def _one(counts: Mapping[str, int]) -> Mapping[Labels, float]:
    return {(label,): count for label, count in counts.items()}
