"""What is asked of the service Leases."""

import math
from typing import Final

from google.protobuf.message import Message as Payload

from furiosa.client._core.request import MARGIN_SECONDS, Request, duration
from furiosa.common import wire
from furiosa.common.errors import BadArgument
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import LeaseOverview, LeaseView
from furiosa.proto.broker.v1 import leases_pb2 as pb

_PRIORITIES: Final = range(-(2**31), 2**31)  # what fits into the field


def overview() -> Request[LeaseOverview]:
    def convert(data: bytes) -> LeaseOverview:
        return wire.overview_from_wire(pb.ListLeasesResponse.FromString(data))

    return Request("Leases/List", pb.ListLeasesRequest(), convert)


def watch(after_revision: int) -> Request[LeaseOverview]:
    def convert(data: bytes) -> LeaseOverview:
        return wire.overview_from_wire(pb.WatchLeasesResponse.FromString(data))

    return Request("Leases/Watch", pb.WatchLeasesRequest(after_revision=after_revision), convert)


def acquire(
    spec: DeviceSpec,
    wait_limit: float | None,
    time_to_live: float | None,
    linger: float | None,
    priority: int | None,
    notices: bool,
) -> Request[tuple[LeaseView, str]]:
    """The lease, and the secret of one that lingers."""
    if priority is not None and priority not in _PRIORITIES:
        raise BadArgument("priority", str(priority), "a number of 32 bits")
    request = pb.AcquireRequest(
        device_spec=str(spec),
        wait_limit=duration("wait_limit", wait_limit),
        time_to_live=duration("time_to_live", time_to_live),
        linger=duration("linger", linger),
        priority=priority,
        queue_notices=pb.QUEUE_NOTICES_ON_CHANGE if notices else pb.QUEUE_NOTICES_UNSPECIFIED,
    )
    seconds = None if wait_limit == math.inf else (wait_limit or 0.0) + MARGIN_SECONDS

    def convert(data: bytes) -> tuple[LeaseView, str]:
        message = pb.AcquireResponse.FromString(data)
        return wire.lease_from_wire(message.lease), message.secret

    def undo(data: bytes) -> tuple[str, Payload]:
        lease = pb.AcquireResponse.FromString(data).lease
        return "Leases/Release", pb.ReleaseRequest(lease_id=lease.id)

    return Request("Leases/Acquire", request, convert, seconds, undo)


def release(lease_id: str) -> Request[pb.ReleaseResponse]:
    request = pb.ReleaseRequest(lease_id=lease_id)
    return Request("Leases/Release", request, pb.ReleaseResponse.FromString)


def renew(lease_id: str, time_to_live: float | None) -> Request[LeaseView]:
    def convert(data: bytes) -> LeaseView:
        return wire.lease_from_wire(pb.RenewResponse.FromString(data).lease)

    length = duration("time_to_live", time_to_live)
    return Request("Leases/Renew", pb.RenewRequest(lease_id=lease_id, time_to_live=length), convert)


def resume(lease_id: str, secret: str) -> Request[LeaseView]:
    def convert(data: bytes) -> LeaseView:
        return wire.lease_from_wire(pb.ResumeResponse.FromString(data).lease)

    return Request("Leases/Resume", pb.ResumeRequest(lease_id=lease_id, secret=secret), convert)


def transfer(lease_id: str, pid: int) -> Request[LeaseView]:
    if not 0 < pid < 2**32:
        raise BadArgument("pid", str(pid), "a process id")

    def convert(data: bytes) -> LeaseView:
        return wire.lease_from_wire(pb.TransferResponse.FromString(data).lease)

    return Request("Leases/Transfer", pb.TransferRequest(lease_id=lease_id, pid=pid), convert)
