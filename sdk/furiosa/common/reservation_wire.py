"""Reservations to protobuf messages and back. As `wire`, of which it is the rest."""

from google.protobuf.timestamp_pb2 import Timestamp

from furiosa.common.errors import BadDeviceFile
from furiosa.common.names import DeviceFile
from furiosa.common.reservations import GrantsView, ReservationState, ReservationView
from furiosa.common.views import Container
from furiosa.proto.broker.v1 import reservations_pb2 as pb
from furiosa.proto.broker.v1 import types_pb2


def reservation_to_wire(view: ReservationView) -> pb.Reservation:
    created_at = Timestamp()
    created_at.FromMicroseconds(round(view.created_at * 1e6))
    message = pb.Reservation(
        id=view.id,
        device_files=map(str, view.device_files),
        manager=view.manager,
        name=view.name,
        label=view.label,
        state=pb.ReservationState.Value(f"RESERVATION_STATE_{view.state.name}"),
        pids=view.pids,
        created_at=created_at,
        grant=view.grant,
    )
    if (container := view.container) is not None:
        message.container.CopyFrom(
            types_pb2.Container(
                runtime=container.runtime, id=container.id, pod_uid=container.pod_uid
            )
        )
    return message


def reservation_from_wire(message: pb.Reservation) -> ReservationView:
    """Raises: ValueError for what no broker sends."""
    container = None
    if message.HasField("container"):
        found = message.container
        container = Container(found.runtime, found.id, found.pod_uid)
    state = pb.ReservationState.Name(message.state).removeprefix("RESERVATION_STATE_")
    try:
        return ReservationView(
            id=message.id,
            device_files=tuple(map(DeviceFile.parse, message.device_files)),
            manager=message.manager,
            name=message.name,
            label=message.label,
            state=ReservationState[state],
            container=container,
            pids=tuple(message.pids),
            created_at=message.created_at.ToMicroseconds() / 1e6,
            grant=message.grant,
        )
    except (BadDeviceFile, KeyError) as exc:
        raise ValueError(str(exc)) from None


def grants_to_wire(view: GrantsView) -> pb.GrantsResponse:
    return pb.GrantsResponse(folder=view.folder, socket=view.socket)


def grants_from_wire(message: pb.GrantsResponse) -> GrantsView:
    return GrantsView(message.folder, message.socket)
