"""What the broker says a device file did, against a stopwatch: the client's own record of its runs."""

from collections.abc import Iterator

import pytest

from furiosa.client.sync import Connection
from furiosa.common.names import DeviceFile
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import UtilizationView
from furiosa.compiler import CompilerOptions, compile
from support.daemon import Daemon
from support.qdq_nets import Qdq
from support.stopwatch import Load, cpu_seconds, now_ns

WINDOW_MS = 1500
POINTS = 0.02
SPUN = 0.03  # a worker looks for more work for 0.1 ms after each run of 5


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


def observed(connection: Connection) -> dict[DeviceFile, UtilizationView]:
    return {row.device_file: row for row in connection.utilization(WINDOW_MS)}


def agrees(row: UtilizationView, watched: tuple[float, float]) -> None:
    task, tensor = watched
    assert row.npu_fraction == pytest.approx(task, abs=POINTS)
    assert row.computation_fraction == pytest.approx(tensor, abs=POINTS)
    assert row.io_fraction == pytest.approx(1 - tensor if task else 0, abs=POINTS)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_load_and_an_idle_neighbour_are_what_a_stopwatch_says(
    daemon: Daemon, connection: Connection, single: bytes, share: float
) -> None:
    lease = connection.acquire(DeviceSpec.parse("warboy(1)*2"))
    busy, idle = lease.device_files
    loaded = connection.load_program(lease.id, single)
    with Load(connection, lease, loaded, busy, share) as load:
        start = now_ns()
        rows = observed(connection)
        end = now_ns()
    watched = load.busy(start, end)
    agrees(rows[busy], watched)
    assert 0.2 < watched[1] < 0.98  # both kinds of time are there to be told apart
    agrees(rows[idle], (0.0, 0.0))


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
        start = now_ns()
        rows = observed(connection)
        end = now_ns()
    agrees(rows[first], full.busy(start, end))
    agrees(rows[second], part.busy(start, end))


def test_a_fused_file_is_what_a_stopwatch_says(daemon: Daemon, connection: Connection) -> None:
    lease = connection.acquire(DeviceSpec.parse("warboy(2)*1"))
    (fused,) = lease.device_files
    loaded = connection.load_program(lease.id, program("warboy-2pe"))
    with Load(connection, lease, loaded, fused, 0.5) as load:
        start = now_ns()
        rows = observed(connection)
        end = now_ns()
    agrees(rows[fused], load.busy(start, end))


def test_a_worker_uses_no_more_of_its_cpu_than_its_file_was_busy(
    daemon: Daemon, connection: Connection, single: bytes
) -> None:
    lease = connection.acquire(DeviceSpec.parse("warboy(1)*1"))
    (file,) = lease.device_files
    loaded = connection.load_program(lease.id, single)
    (worker,) = daemon.workers()
    with Load(connection, lease, loaded, file, 0.5):
        start, used = now_ns(), cpu_seconds(worker)
        rows = observed(connection)
        end, used = now_ns(), cpu_seconds(worker) - used
    assert 0 < used * 1e9 / (end - start) <= rows[file].npu_fraction + SPUN
