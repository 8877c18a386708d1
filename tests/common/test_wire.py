from dataclasses import replace

import pytest

from furiosa.common import wire
from furiosa.common.names import DeviceFile
from furiosa.common.tensor import DType, Quantization, TensorSpec
from furiosa.common.views import (
    Architecture,
    Availability,
    Container,
    CoreState,
    CoreView,
    DeviceView,
    Health,
    LeaseEndedNotice,
    LeaseOverview,
    LeaseRecalledNotice,
    LeaseState,
    LeaseView,
    Notice,
    Origin,
    OwnerView,
    ProcessView,
    ProgramView,
    QueuedNotice,
    UtilizationView,
    WaiterView,
    WorkerDiedNotice,
)
from furiosa.proto.broker.v1 import handoff_pb2, types_pb2

FILE = DeviceFile.parse("npu0pe0-1")
OWNER = OwnerView(4242, 1000, 1001, 123456789, "python app.py --x 'ä'")
DEVICE = DeviceView(
    index=1,
    architecture=Architecture.WARBOY,
    origin=Origin.EMULATED,
    health=Health.ALIVE,
    uuid="01234567-89AB-CDEF-0123-456789ABCDEF",
    serial_number="WBYB0000000000000",
    firmware_version="1.6.0, 3c10fd3",
    driver_version="1.9.2, 3c10fd3",
    pci_bdf="0000:44:00.0",
    pci_dev="511:0",
    numa_node=-1,
    temperature_millicelsius=54000,
    power_microwatts=990000,
    cores=(CoreView(0, CoreState.OCCUPIED, FILE), CoreView(1, CoreState.AVAILABLE)),
    device_files=(DeviceFile.parse("npu1"), FILE),
)


@pytest.mark.parametrize(
    "device",
    [
        DEVICE,
        replace(DEVICE, temperature_millicelsius=None, power_microwatts=None),
        replace(DEVICE, temperature_millicelsius=0, power_microwatts=0, cores=(), device_files=()),
        replace(DEVICE, health=Health.DEAD, origin=Origin.HARDWARE),
        replace(DEVICE, availability=Availability.CORDONED, reason="new firmware"),
        replace(DEVICE, availability=Availability.UNAVAILABLE, reason="95 C"),
    ],
)
def test_device_survives_the_wire(device: DeviceView) -> None:
    assert wire.device_from_wire(wire.device_to_wire(device)) == device


REMOTE = OwnerView(0, 0, 0, 0, "client/1", remote="10.0.0.1:4242", subject="CN=client")
IN_POD = replace(OWNER, container=Container("containerd", "ab" * 32, "7f0c"))


@pytest.mark.parametrize("state", LeaseState)
@pytest.mark.parametrize("owner", [OWNER, REMOTE, IN_POD])
def test_lease_survives_the_wire(state: LeaseState, owner: OwnerView) -> None:
    lease = LeaseView("l1", (FILE,), state, owner, 1700000000.123456)
    assert wire.lease_from_wire(wire.lease_to_wire(lease)) == lease
    ending = replace(lease, tenant="uid:0", priority=-3, ends_at=1700000001.5, cause="time is up")
    assert wire.lease_from_wire(wire.lease_to_wire(ending)) == ending


@pytest.mark.parametrize("deadline", [None, 1700000009.25])
def test_the_queue_survives_the_wire(deadline: float | None) -> None:
    waiter = WaiterView(1, "warboy(2)*1", "vision", 5, OWNER, 1700000000.5, deadline, "busy", 17)
    lease = LeaseView("l1", (FILE,), LeaseState.GRANTED, OWNER, 1700000000.0)
    overview = LeaseOverview((lease,), (waiter,), 42)
    assert wire.overview_from_wire(wire.overview_to_wire(overview)) == overview


def test_process_and_utilization_survive_the_wire() -> None:
    process = ProcessView(FILE, 1, "cmd", "l1", "10.0.0.1:4242")
    assert wire.process_from_wire(wire.process_to_wire(process)) == process
    use = UtilizationView(FILE, 10**9, 0.5, 0.75, 0.25, 1, "cmd", 1_700_000_000_500_000_001)
    assert wire.utilization_from_wire(wire.utilization_to_wire(use)) == use


@pytest.mark.parametrize("dtype", DType)
@pytest.mark.parametrize("quantization", [None, Quantization(0.5, -128), Quantization(0.0, 0)])
def test_program_survives_the_wire(dtype: DType, quantization: Quantization | None) -> None:
    specs = (
        TensorSpec("x", dtype, (1, 3, 8), quantization, "N?W", (1, 3, 7)),
        TensorSpec("s", dtype, ()),
    )
    program = ProgramView(3, "l1", "warboy", specs, specs[:1], 4096)
    assert wire.program_from_wire(wire.program_to_wire(program)) == program


@pytest.mark.parametrize(
    "notice",
    [
        WorkerDiedNotice("l1", FILE, "killed by signal 9"),
        LeaseEndedNotice("l1", "drain"),
        LeaseRecalledNotice("l1", "maintenance", 1.5, LeaseState.RECALLED),
        QueuedNotice(7, 2, "npu0 is cordoned"),
    ],
)
def test_notice_survives_the_wire(notice: Notice) -> None:
    assert wire.notice_from_wire(wire.notice_to_wire(notice)) == notice


def test_unspecified_is_refused_not_guessed() -> None:
    message = wire.device_to_wire(DEVICE)
    message.health = types_pb2.DEVICE_HEALTH_UNSPECIFIED
    with pytest.raises(ValueError, match="Health"):
        wire.device_from_wire(message)
    with pytest.raises(ValueError, match="without an event"):
        wire.notice_from_wire(handoff_pb2.Notice())


def test_a_malformed_device_file_is_refused() -> None:
    message = wire.process_to_wire(ProcessView(FILE, 1, "cmd", ""))
    message.device_file = "npu0pe9-1"
    with pytest.raises(ValueError, match="npu0pe9-1"):
        wire.process_from_wire(message)
