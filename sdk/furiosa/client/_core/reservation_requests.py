"""What is asked of the service Reservations."""

from collections.abc import Sequence

from furiosa.client._core.request import Request
from furiosa.common.names import DeviceFile
from furiosa.common.reservation_wire import grants_from_wire, reservation_from_wire
from furiosa.common.reservations import GrantsView, ReservationView
from furiosa.proto.broker.v1 import reservations_pb2 as pb


def reserve(
    files: Sequence[DeviceFile], manager: str, name: str, label: str
) -> Request[ReservationView]:
    def convert(data: bytes) -> ReservationView:
        return reservation_from_wire(pb.ReserveResponse.FromString(data).reservation)

    request = pb.ReserveRequest(
        device_files=map(str, files), manager=manager, name=name, label=label
    )
    return Request("Reservations/Reserve", request, convert)


def cancel(reservation_id: str) -> Request[pb.CancelReservationResponse]:
    request = pb.CancelReservationRequest(id=reservation_id)
    return Request("Reservations/Cancel", request, pb.CancelReservationResponse.FromString)


def reservations() -> Request[tuple[ReservationView, ...]]:
    def convert(data: bytes) -> tuple[ReservationView, ...]:
        response = pb.ListReservationsResponse.FromString(data)
        return tuple(map(reservation_from_wire, response.reservations))

    return Request("Reservations/List", pb.ListReservationsRequest(), convert)


def grants() -> Request[GrantsView]:
    def convert(data: bytes) -> GrantsView:
        return grants_from_wire(pb.GrantsResponse.FromString(data))

    return Request("Reservations/Grants", pb.GrantsRequest(), convert)
