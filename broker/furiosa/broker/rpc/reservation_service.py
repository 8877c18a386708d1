"""Reservations: who may, convert, ask the keeper, convert."""

from collections.abc import Mapping
from pathlib import Path

from furiosa.broker.reservations import Access, Keeper
from furiosa.broker.reservations.record import Asked
from furiosa.broker.rpc.methods import Call, Method, Unary
from furiosa.broker.tenancy import Tenancy
from furiosa.common.names import DeviceFile
from furiosa.common.reservation_wire import grants_to_wire, reservation_to_wire
from furiosa.common.reservations import GrantsView
from furiosa.proto.broker.v1 import reservations_pb2 as pb


class ReservationService:
    """`folder` has the grant files; `socket` is the one of gRPC."""

    def __init__(
        self, keeper: Keeper, access: Access, tenancy: Tenancy, folder: Path, socket: Path
    ) -> None:
        self._keeper = keeper
        self._access = access
        self._tenancy = tenancy
        self._where = GrantsView(str(folder.absolute()), str(socket.absolute()))

    @property
    def methods(self) -> Mapping[str, Method]:
        return {
            "Reservations/Reserve": Unary(pb.ReserveRequest, self.reserve),
            "Reservations/Cancel": Unary(pb.CancelReservationRequest, self.cancel),
            "Reservations/List": Unary(pb.ListReservationsRequest, self.list),
            "Reservations/Grants": Unary(pb.GrantsRequest, self.grants),
        }

    async def reserve(self, request: pb.ReserveRequest, call: Call) -> pb.ReserveResponse:
        self._authorize(call, "reserve cores")
        asked = Asked(
            tuple(map(DeviceFile.parse, request.device_files)),
            request.manager,
            request.name,
            request.label,
        )
        view = await self._keeper.reserve(asked)
        return pb.ReserveResponse(reservation=reservation_to_wire(view))

    async def cancel(
        self, request: pb.CancelReservationRequest, call: Call
    ) -> pb.CancelReservationResponse:
        self._authorize(call, "cancel reservations")
        await self._keeper.cancel(request.id)
        return pb.CancelReservationResponse()

    async def list(
        self, request: pb.ListReservationsRequest, call: Call
    ) -> pb.ListReservationsResponse:
        views = await self._keeper.views()
        return pb.ListReservationsResponse(reservations=map(reservation_to_wire, views))

    async def grants(self, request: pb.GrantsRequest, call: Call) -> pb.GrantsResponse:
        return grants_to_wire(self._where)

    def _authorize(self, call: Call, what: str) -> None:
        """Raises: NotAllowed."""
        session = call.need_session()
        if not self._access.may_reserve(session):
            self._tenancy.need_admin(session, what)
