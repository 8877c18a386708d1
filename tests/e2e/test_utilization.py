"""What the broker says a device file did, against a stopwatch: the client's own record of its runs."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from furiosa.client.sync import Connection
from furiosa.common.names import DeviceFile
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import UtilizationView
from furiosa.compiler import CompilerOptions, compile
from support.daemon import Daemon
from support.qdq_nets import Qdq
from support.stopwatch import Load, cpu_seconds

WINDOW_MS = 1500
POINTS = 0.02
ASIDE_NS = (
    300_000  # of a worker's CPU time for each run beside it: it looks for more work for 0.1 ms
)


def program(target: str) -> bytes:
    """Several milliseconds: a convolution for the NPU, and a part for the host, which is I/O time to it."""
    net = Qdq()
    x = net.input(1, 96, 56, 56)
    weights = net.stored(96, 96, 3, 3, scale=0.001)
    y = net.rounded(net.node("Conv", x, weights, pads=[1, 1, 1, 1]))
    model = net.model(net.node("Sin", y))
    return compile(model.SerializeToString(), CompilerOptions(target=target))


@pytest.fixture(scope="module")
def single() -> bytes:
    return program("warboy")


@pytest.fixture
def connection(daemon: Daemon) -> Iterator[Connection]:
    with Connection.open(client="stopwatch") as made:
        yield made


@dataclass(frozen=True)
class Window:
    """What the broker said, and the time it took to say it, in which its window lies."""

    rows: Mapping[DeviceFile, UtilizationView]
    start_ns: int
    end_ns: int

    def agrees(self, file: DeviceFile, load: Load | None) -> None:
        """With the stopwatch in the earliest, the latest or the longest window that it may have been."""
        row = self.rows[file]
        watched = [(0.0, 0.0, 0.0)]
        if load is not None:
            length, start, end = row.window_ns, self.start_ns, self.end_ns
            spans = ((start, start + length), (end - length, end), (start, end))
            watched = [load.busy(*span) for span in spans]
        task, tensor, cut = (sorted(column) for column in zip(*watched, strict=True))
        known = POINTS + cut[-1]
        assert task[0] - POINTS <= row.npu_fraction <= task[-1] + POINTS
        assert tensor[0] - known <= row.computation_fraction <= tensor[-1] + known
        assert row.io_fraction == pytest.approx(1 - row.computation_fraction if load else 0)


def observed(connection: Connection) -> Window:
    start = time.monotonic_ns()
    rows = connection.utilization(WINDOW_MS)
    return Window({row.device_file: row for row in rows}, start, time.monotonic_ns())


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_load_and_an_idle_neighbour_are_what_a_stopwatch_says(
    daemon: Daemon, connection: Connection, single: bytes, share: float
) -> None:
    lease = connection.acquire(DeviceSpec.parse("warboy(1)*2"))
    busy, idle = lease.device_files
    loaded = connection.load_program(lease.id, single)
    with Load(connection, lease, loaded, busy, share) as load:
        window = observed(connection)
    window.agrees(busy, load)
    window.agrees(idle, None)
    # both kinds of time are there to be told apart
    assert 0.2 < window.rows[busy].computation_fraction < 0.98


def test_two_files_at_once_are_told_apart(
    daemon: Daemon, connection: Connection, single: bytes
) -> None:
    lease = connection.acquire(DeviceSpec.parse("warboy(1)*2"))
    loaded = connection.load_program(lease.id, single)
    first, second = lease.device_files
    with (
        Load(connection, lease, loaded, first, 1.0) as full,
        Load(connection, lease, loaded, second, 0.3) as part,
    ):
        window = observed(connection)
    window.agrees(first, full)
    window.agrees(second, part)


def test_a_fused_file_is_what_a_stopwatch_says(daemon: Daemon, connection: Connection) -> None:
    lease = connection.acquire(DeviceSpec.parse("warboy(2)*1"))
    (fused,) = lease.device_files
    loaded = connection.load_program(lease.id, program("warboy-2pe"))
    with Load(connection, lease, loaded, fused, 0.5) as load:
        window = observed(connection)
    window.agrees(fused, load)


def test_a_worker_uses_no_more_of_its_cpu_than_its_file_was_busy(
    daemon: Daemon, connection: Connection, single: bytes
) -> None:
    lease = connection.acquire(DeviceSpec.parse("warboy(1)*1"))
    (file,) = lease.device_files
    loaded = connection.load_program(lease.id, single)
    (worker,) = daemon.workers()
    with Load(connection, lease, loaded, file, 0.5) as load:
        before = cpu_seconds(worker)
        window = observed(connection)
        used = cpu_seconds(worker) - before
    length = window.end_ns - window.start_ns
    aside = load.runs(window.start_ns, window.end_ns) * ASIDE_NS / length
    assert 0 < used * 1e9 / length <= window.rows[file].npu_fraction + aside
