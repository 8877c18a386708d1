"""What is asked of the service Devices."""

from furiosa.client._core.request import ANSWER_SECONDS, Request
from furiosa.client.snapshot import Snapshot
from furiosa.common import card_wire, wire
from furiosa.common.views import CardPart, CardTexts, DeviceView, ProcessView, UtilizationView
from furiosa.proto.broker.v1 import devices_pb2 as pb


def devices() -> Request[tuple[DeviceView, ...]]:
    def convert(data: bytes) -> tuple[DeviceView, ...]:
        return wire.devices_from_wire(pb.ListDevicesResponse.FromString(data))

    return Request("Devices/List", pb.ListDevicesRequest(), convert)


def watch_devices(after_revision: int) -> Request[Snapshot[DeviceView]]:
    def convert(data: bytes) -> Snapshot[DeviceView]:
        message = pb.WatchDevicesResponse.FromString(data)
        return Snapshot(message.revision, tuple(map(wire.device_from_wire, message.devices)))

    request = pb.WatchDevicesRequest(after_revision=after_revision)
    return Request("Devices/Watch", request, convert)


def processes() -> Request[tuple[ProcessView, ...]]:
    def convert(data: bytes) -> tuple[ProcessView, ...]:
        message = pb.ListProcessesResponse.FromString(data)
        return tuple(map(wire.process_from_wire, message.processes))

    return Request("Devices/Processes", pb.ListProcessesRequest(), convert)


def watch_processes(after_revision: int) -> Request[Snapshot[ProcessView]]:
    def convert(data: bytes) -> Snapshot[ProcessView]:
        message = pb.WatchProcessesResponse.FromString(data)
        return Snapshot(message.revision, tuple(map(wire.process_from_wire, message.processes)))

    request = pb.WatchProcessesRequest(after_revision=after_revision)
    return Request("Devices/WatchProcesses", request, convert)


def utilization(window_ms: int) -> Request[tuple[UtilizationView, ...]]:
    def convert(data: bytes) -> tuple[UtilizationView, ...]:
        message = pb.UtilizationResponse.FromString(data)
        return tuple(map(wire.utilization_from_wire, message.utilizations))

    request = pb.UtilizationRequest(window_ms=window_ms)
    seconds = window_ms / 1000 + ANSWER_SECONDS
    return Request("Devices/Utilization", request, convert, seconds)


def inspect(npu: int, part: CardPart) -> Request[CardTexts]:
    def convert(data: bytes) -> CardTexts:
        return card_wire.texts_from_wire(pb.InspectResponse.FromString(data))

    return Request("Devices/Inspect", card_wire.inspection_to_wire(npu, part), convert)
