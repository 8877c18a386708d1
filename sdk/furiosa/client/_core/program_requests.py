"""What is asked about the programs and queues of a lease, and about its device nodes."""

from typing import TYPE_CHECKING, Final

from google.protobuf.message import Message as Payload

from furiosa.client._core.request import Request
from furiosa.common import wire
from furiosa.common.names import DeviceFile
from furiosa.common.views import ProgramView
from furiosa.proto.broker.v1 import handoff_pb2, programs_pb2

if TYPE_CHECKING:
    from furiosa.queuepair.layout import Geometry  # with numpy, which is slow to import

LOAD_SECONDS: Final = 90.0  # the broker itself gives a worker a minute


def load(lease_id: str, traced: bool) -> Request[ProgramView]:
    """One descriptor goes along: a memfd that holds the ENF."""

    def convert(data: bytes) -> ProgramView:
        return wire.program_from_wire(programs_pb2.LoadProgramResponse.FromString(data).program)

    def undo(data: bytes) -> tuple[str, Payload]:
        program = programs_pb2.LoadProgramResponse.FromString(data).program
        return "Programs/Unload", unload(lease_id, program.id).message

    request = handoff_pb2.LoadProgramDescriptorRequest(lease_id=lease_id, traced=traced)
    return Request("Session/LoadProgram", request, convert, LOAD_SECONDS, undo)


def unload(lease_id: str, program_id: int) -> Request[programs_pb2.UnloadProgramResponse]:
    request = programs_pb2.UnloadProgramRequest(lease_id=lease_id, program_id=program_id)
    return Request("Programs/Unload", request, programs_pb2.UnloadProgramResponse.FromString)


def open_queue(lease_id: str, file: DeviceFile, geometry: "Geometry") -> Request[int]:
    """Three descriptors come with the answer, which is the queue's number."""

    def convert(data: bytes) -> int:
        return handoff_pb2.OpenQueueResponse.FromString(data).queue_id

    def undo(data: bytes) -> tuple[str, Payload]:
        return "Session/CloseQueue", close_queue(lease_id, convert(data)).message

    request = handoff_pb2.OpenQueueRequest(
        lease_id=lease_id,
        device_file=str(file),
        depth=geometry.depth,
        arena_bytes=geometry.arena_bytes,
    )
    return Request("Session/OpenQueue", request, convert, undo=undo)


def close_queue(lease_id: str, queue_id: int) -> Request[handoff_pb2.CloseQueueResponse]:
    request = handoff_pb2.CloseQueueRequest(lease_id=lease_id, queue_id=queue_id)
    return Request("Session/CloseQueue", request, handoff_pb2.CloseQueueResponse.FromString)


def open_device(lease_id: str, file: DeviceFile) -> Request[handoff_pb2.OpenDeviceResponse]:
    """One descriptor comes with the answer."""
    request = handoff_pb2.OpenDeviceRequest(lease_id=lease_id, device_file=str(file))
    return Request("Session/OpenDevice", request, handoff_pb2.OpenDeviceResponse.FromString)
