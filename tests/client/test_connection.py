"""The calls of a connection: what is asked and what comes back."""

import fcntl
import math
import os

import pytest

from furiosa.client.sync import Connection
from furiosa.common import wire
from furiosa.common.errors import (
    BadArgument,
    BrokerUnavailable,
    DeviceBusy,
    InvalidProgram,
)
from furiosa.common.names import ALL, CoreRange, DeviceFile
from furiosa.common.selector import DeviceSpec
from furiosa.common.tensor import DType, TensorSpec
from furiosa.common.views import (
    Architecture,
    CoreState,
    CoreView,
    DeviceView,
    Health,
    LeaseState,
    LeaseView,
    Origin,
    OwnerView,
    ProcessView,
    ProgramView,
    UtilizationView,
)
from furiosa.proto.broker.v1 import devices_pb2, handoff_pb2, leases_pb2, programs_pb2
from furiosa.queuepair.layout import Descriptors, Geometry
from support.fake_broker import FakeBroker, Handler, Peer, replies

PE0 = DeviceFile(0, CoreRange(0, 0))
LEASE = LeaseView("a1", (PE0,), LeaseState.GRANTED, OwnerView(7, 1, 2, 3, "x"), 5.5)
SPEC = DeviceSpec.parse("npu0pe0")


def test_devices(broker: FakeBroker, connection: Connection) -> None:
    cores = (CoreView(0, CoreState.OCCUPIED, PE0), CoreView(1, CoreState.AVAILABLE))
    device = DeviceView(
        *(0, Architecture.WARBOY, Origin.EMULATED, Health.ALIVE, "u", "s", "f", "d", "b", "p"),
        *(-1, 40_000, None, cores, (DeviceFile(0, ALL), PE0)),
    )
    message = devices_pb2.ListDevicesResponse(devices=[wire.device_to_wire(device)])
    broker.handlers["Devices/List"] = replies(message)
    assert connection.devices() == (device,)


def test_processes(broker: FakeBroker, connection: Connection) -> None:
    process = ProcessView(PE0, 7, "x y", "a1")
    message = devices_pb2.ListProcessesResponse(processes=[wire.process_to_wire(process)])
    broker.handlers["Devices/Processes"] = replies(message)
    assert connection.processes() == (process,)


def test_utilization(broker: FakeBroker, connection: Connection) -> None:
    use = UtilizationView(PE0, 5, 0.5, 0.25, 0.75, 7, "x", 1_500_000_000)
    message = devices_pb2.UtilizationResponse(utilizations=[wire.utilization_to_wire(use)])
    broker.handlers["Devices/Utilization"] = replies(message)
    assert connection.utilization(250) == (use,)
    request = devices_pb2.UtilizationRequest.FromString(broker.requests["Devices/Utilization"])
    assert request.window_ms == 250


def test_leases(broker: FakeBroker, connection: Connection) -> None:
    message = leases_pb2.ListLeasesResponse(leases=[wire.lease_to_wire(LEASE)])
    broker.handlers["Leases/List"] = replies(message)
    assert connection.leases() == (LEASE,)


@pytest.mark.parametrize(
    ("wait_limit", "seconds"),
    [(None, None), (0, 0.0), (0.25, 0.25), (3, 3.0), (math.inf, 10 * 365 * 86_400.0)],
)
def test_acquire_says_how_long_it_will_wait(
    broker: FakeBroker, connection: Connection, wait_limit: float | None, seconds: float | None
) -> None:
    message = leases_pb2.AcquireResponse(lease=wire.lease_to_wire(LEASE))
    broker.handlers["Leases/Acquire"] = replies(message)
    assert connection.acquire(SPEC, wait_limit) == LEASE
    request = leases_pb2.AcquireRequest.FromString(broker.requests["Leases/Acquire"])
    assert request.device_spec == "npu:0:0"
    assert request.HasField("wait_limit") == (seconds is not None)
    assert request.wait_limit.ToNanoseconds() == (seconds or 0) * 1e9


@pytest.mark.parametrize("wait_limit", [-1.0, math.nan, -math.inf])
def test_negative_wait_is_refused_before_anything_is_sent(
    broker: FakeBroker, connection: Connection, wait_limit: float
) -> None:
    with pytest.raises(BadArgument, match="wait_limit"):
        connection.acquire(SPEC, wait_limit)
    assert broker.calls["Leases/Acquire"] == 0


def test_failure_is_raised_as_the_error_it_was(broker: FakeBroker, connection: Connection) -> None:
    busy = DeviceBusy("npu0pe0", "npu0", 7, "x")
    broker.handlers["Leases/Acquire"] = lambda peer, request, fds: peer.fail(busy)
    with pytest.raises(DeviceBusy) as caught:
        connection.acquire(SPEC)
    assert vars(caught.value) == vars(busy)
    assert broker.calls["cancel"] == 0


def test_release(broker: FakeBroker, connection: Connection) -> None:
    broker.handlers["Leases/Release"] = replies(leases_pb2.ReleaseResponse())
    connection.release("a1")
    request = leases_pb2.ReleaseRequest.FromString(broker.requests["Leases/Release"])
    assert request.lease_id == "a1"


def test_program_travels_in_sealed_memory(broker: FakeBroker, connection: Connection) -> None:
    program = ProgramView(4, "a1", "warboy", (TensorSpec("i", DType.INT8, (1, 2)),), (), 300_000)
    enf = os.urandom(300_000)
    arrived: list[tuple[bytes, int]] = []

    def load(peer: Peer, request: bytes, fds: tuple[int, ...]) -> None:
        (fd,) = fds
        arrived.append((os.pread(fd, 1 << 20, 0), fcntl.fcntl(fd, fcntl.F_GET_SEALS)))
        peer.reply(programs_pb2.LoadProgramResponse(program=wire.program_to_wire(program)))

    broker.handlers["Session/LoadProgram"] = load
    assert connection.load_program("a1", enf) == program
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    assert arrived == [(enf, seals)]


def test_refused_program_is_an_invalid_program(broker: FakeBroker, connection: Connection) -> None:
    broker.handlers["Session/LoadProgram"] = lambda peer, request, fds: peer.fail(
        InvalidProgram("magic", "no magic")
    )
    with pytest.raises(InvalidProgram, match="magic"):
        connection.load_program("a1", b"")


def test_unload(broker: FakeBroker, connection: Connection) -> None:
    broker.handlers["Programs/Unload"] = replies(programs_pb2.UnloadProgramResponse())
    connection.unload_program("a1", 4)
    request = programs_pb2.UnloadProgramRequest.FromString(broker.requests["Programs/Unload"])
    assert (request.lease_id, request.program_id) == ("a1", 4)


def queue_of(*fds: int) -> Handler:
    def open_queue(peer: Peer, request: bytes, _: tuple[int, ...]) -> None:
        peer.reply(handoff_pb2.OpenQueueResponse(queue_id=6), fds)

    return open_queue


def test_queue_comes_with_three_descriptors_in_order(
    broker: FakeBroker, connection: Connection
) -> None:
    pipes = [os.pipe() for _ in range(3)]
    broker.handlers["Session/OpenQueue"] = queue_of(*(writing for _, writing in pipes))
    queue_id, descriptors = connection.open_queue("a1", PE0, Geometry(8, 4096))
    assert queue_id == 6
    for (reading, _), fd in zip(pipes, descriptors.as_tuple(), strict=True):
        os.write(fd, b"x")
        assert os.read(reading, 1) == b"x"
        assert not os.get_inheritable(fd)
    descriptors.close()
    for pipe in pipes:
        Descriptors(*pipe, os.dup(pipe[0])).close()
    request = handoff_pb2.OpenQueueRequest.FromString(broker.requests["Session/OpenQueue"])
    assert (request.lease_id, request.device_file) == ("a1", "npu0pe0")
    assert (request.depth, request.arena_bytes) == (8, 4096)


def test_queue_with_the_wrong_number_of_descriptors_is_refused(
    broker: FakeBroker, connection: Connection
) -> None:
    broker.handlers["Session/OpenQueue"] = queue_of(0, 1)
    with pytest.raises(BrokerUnavailable, match="has 2 descriptors, not 3"):
        connection.open_queue("a1", PE0, Geometry(8, 4096))


def test_close_queue(broker: FakeBroker, connection: Connection) -> None:
    broker.handlers["Session/CloseQueue"] = replies(handoff_pb2.CloseQueueResponse())
    connection.close_queue("a1", 6)
    request = handoff_pb2.CloseQueueRequest.FromString(broker.requests["Session/CloseQueue"])
    assert (request.lease_id, request.queue_id) == ("a1", 6)
