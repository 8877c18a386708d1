"""Faults of virtual cards to protobuf messages and back. As `wire`, of which it is the rest."""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from furiosa.common.errors import BadArgument
from furiosa.common.faults import (
    MOST_DELAY_NS,
    Dead,
    DmaError,
    Fault,
    FaultView,
    Hot,
    Hung,
    SlowDma,
)
from furiosa.common.names import DeviceFile
from furiosa.proto.broker.v1 import admin_pb2 as pb


def fault_to_wire(view: FaultView) -> pb.Fault:
    message = pb.Fault(device_file=str(view.device_file))
    match view.fault:
        case Dead():
            message.dead.SetInParent()
        case Hot(celsius):
            message.hot.celsius = celsius
            message.hot.SetInParent()  # also for 0
        case Hung():
            message.hung.SetInParent()
        case DmaError(every, count):
            message.dma_error.CopyFrom(pb.Fault.DmaError(every=every, count=count))
        case SlowDma(delay_ns):
            message.slow_dma.delay.FromNanoseconds(delay_ns)
    if view.ends_at is not None:
        message.ends_at.CopyFrom(_stamp(view.ends_at))
    return message


def fault_from_wire(message: pb.Fault) -> FaultView:
    """Raises: BadDeviceFile; BadArgument for no fault, and for one out of bounds."""
    file = DeviceFile.parse(message.device_file)
    ends_at = message.ends_at.ToMicroseconds() / 1e6 if message.HasField("ends_at") else None
    return FaultView(file, _fault(message), ends_at)


def _fault(message: pb.Fault) -> Fault:
    match message.WhichOneof("kind"):
        case "dead":
            return Dead()
        case "hot":
            return Hot(message.hot.celsius)
        case "hung":
            return Hung()
        case "dma_error":
            return DmaError(message.dma_error.every, message.dma_error.count)
        case "slow_dma":
            return SlowDma(_nanoseconds(message.slow_dma.delay))
        case _:
            raise BadArgument("fault", "not there", "dead, hot, hung, dma_error or slow_dma")


def _nanoseconds(delay: Duration) -> int:
    """What is far out of bounds may not even be a duration; `SlowDma` refuses it."""
    return min(max(delay.seconds * 1_000_000_000 + delay.nanos, 0), MOST_DELAY_NS + 1)


def _stamp(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMicroseconds(round(seconds * 1e6))
    return stamp
