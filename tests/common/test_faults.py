from collections.abc import Callable

import pytest

from furiosa.common.errors import BadArgument, BadDeviceFile
from furiosa.common.fault_wire import fault_from_wire, fault_to_wire
from furiosa.common.faults import Dead, DmaError, FaultView, Hot, Hung, SlowDma
from furiosa.common.names import DeviceFile
from furiosa.proto.broker.v1 import admin_pb2 as pb

CARD, PE1 = DeviceFile.parse("npu0"), DeviceFile.parse("npu0pe1")


@pytest.mark.parametrize(
    "view",
    [
        FaultView(CARD, Dead()),
        FaultView(CARD, Hot(0), ends_at=1_700_000_000.25),
        FaultView(CARD, Hot(-40)),
        FaultView(PE1, Hung()),
        FaultView(PE1, DmaError(3, 7)),
        FaultView(CARD, SlowDma(5_000_001)),
    ],
    ids=str,
)
def test_a_fault_survives_the_wire(view: FaultView) -> None:
    data = fault_to_wire(view).SerializeToString()
    assert fault_from_wire(pb.Fault.FromString(data)) == view


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Hot(201), "celsius is 201, expected -40 to 200"),
        (lambda: DmaError(every=0), "every is 0, expected 1 to 1000000000"),
        (lambda: DmaError(count=-1), "count is -1, expected 0 to 1000000000"),
        (lambda: SlowDma(0), "delay is 0 s, expected more than 0 s, 60 s at most"),
        (lambda: SlowDma(60_000_000_001), "delay is 60 s, expected more than 0 s, 60 s at most"),
        (lambda: FaultView(PE1, Hot()), "npu0pe1, expected npu0: a card is hot as a whole"),
    ],
)
def test_nonsense_is_no_fault(make: Callable[[], object], complaint: str) -> None:
    with pytest.raises(BadArgument, match=complaint):
        make()


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (pb.Fault(device_file="npu0"), BadArgument),
        (pb.Fault(hung=pb.Fault.Hung()), BadDeviceFile),
        (pb.Fault(device_file="npu0pe0", dead=pb.Fault.Dead()), BadArgument),
        (pb.Fault(device_file="npu0", dma_error=pb.Fault.DmaError()), BadArgument),
        (pb.Fault(device_file="npu0", slow_dma=pb.Fault.SlowDma()), BadArgument),
    ],
    ids=str,
)
def test_what_a_stranger_sends_is_checked(message: pb.Fault, error: type[Exception]) -> None:
    with pytest.raises(error):
        fault_from_wire(message)


def test_no_delay_is_too_long_for_a_clear_refusal() -> None:
    message = pb.Fault(device_file="npu0", slow_dma=pb.Fault.SlowDma())
    message.slow_dma.delay.seconds = -(1 << 63)
    with pytest.raises(BadArgument, match="delay is 0 s"):
        fault_from_wire(message)
    message.slow_dma.delay.seconds = (1 << 63) - 1
    with pytest.raises(BadArgument, match="60 s at most"):
        fault_from_wire(message)
