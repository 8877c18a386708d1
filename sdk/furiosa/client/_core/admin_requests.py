"""What is asked of the service Admin."""

from typing import Final

from furiosa.client._core.request import MARGIN_SECONDS, Request, duration
from furiosa.common import fault_wire, wire
from furiosa.common.errors import BadArgument
from furiosa.common.faults import FaultView
from furiosa.common.views import LeaseView
from furiosa.proto.broker.v1 import admin_pb2 as pb

MOST_GRACE_SECONDS: Final = 3600.0  # more than that no broker's own setting allows


def revoke(lease_id: str, grace: float | None, reason: str) -> Request[LeaseView]:
    def convert(data: bytes) -> LeaseView:
        return wire.lease_from_wire(pb.RevokeResponse.FromString(data).lease)

    length = duration("grace", grace)
    request = pb.RevokeRequest(lease_id=lease_id, grace=length, reason=reason)
    return Request("Admin/Revoke", request, convert)


def cordon(npu: int, reason: str) -> Request[pb.CordonResponse]:
    request = pb.CordonRequest(npu=_card(npu), reason=reason)
    return Request("Admin/Cordon", request, pb.CordonResponse.FromString)


def uncordon(npu: int) -> Request[pb.UncordonResponse]:
    request = pb.UncordonRequest(npu=_card(npu))
    return Request("Admin/Uncordon", request, pb.UncordonResponse.FromString)


def drain(npu: int, grace: float | None, reason: str) -> Request[int]:
    """Answered when the card is free."""

    def convert(data: bytes) -> int:
        return pb.DrainResponse.FromString(data).revoked

    request = pb.DrainRequest(npu=_card(npu), grace=duration("grace", grace), reason=reason)
    seconds = (MOST_GRACE_SECONDS if grace is None else grace) + MARGIN_SECONDS
    return Request("Admin/Drain", request, convert, seconds)


def reload() -> Request[str]:
    def convert(data: bytes) -> str:
        return pb.ReloadResponse.FromString(data).tenants

    return Request("Admin/Reload", pb.ReloadRequest(), convert)


def emulate(fault: FaultView, seconds: float | None) -> Request[FaultView]:
    def convert(data: bytes) -> FaultView:
        return fault_wire.fault_from_wire(pb.EmulateResponse.FromString(data).fault)

    request = pb.EmulateRequest(
        fault=fault_wire.fault_to_wire(fault), time_to_live=duration("time_to_live", seconds)
    )
    return Request("Admin/Emulate", request, convert)


def clear_faults(npu: int | None) -> Request[int]:
    def convert(data: bytes) -> int:
        return pb.ClearFaultsResponse.FromString(data).cleared

    request = pb.ClearFaultsRequest(npu=None if npu is None else _card(npu))
    return Request("Admin/ClearFaults", request, convert)


def faults() -> Request[tuple[FaultView, ...]]:
    def convert(data: bytes) -> tuple[FaultView, ...]:
        return tuple(map(fault_wire.fault_from_wire, pb.ListFaultsResponse.FromString(data).faults))

    return Request("Admin/ListFaults", pb.ListFaultsRequest(), convert)


def _card(npu: int) -> int:
    if not 0 <= npu < 2**32:
        raise BadArgument("npu", str(npu), "the number of a card")
    return npu
