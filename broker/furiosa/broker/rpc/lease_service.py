"""Leases: convert, ask the arbiter, convert."""

import math
from collections.abc import AsyncIterator, Mapping

from furiosa.broker.arbiter import Arbiter
from furiosa.broker.changes import Changes
from furiosa.broker.rpc.methods import Call, Method, ServerStream, Unary
from furiosa.common.errors import BadArgument
from furiosa.common.selector import DeviceSpec
from furiosa.common.wire import lease_to_wire
from furiosa.proto.broker.v1 import leases_pb2 as pb

FOR_EVER_SECONDS = 10 * 365 * 24 * 3600  # a wait limit from here on has no end


class LeaseService:
    def __init__(self, arbiter: Arbiter, changes: Changes) -> None:
        self._arbiter = arbiter
        self._changes = changes

    @property
    def methods(self) -> Mapping[str, Method]:
        return {
            "Leases/Acquire": Unary(pb.AcquireRequest, self.acquire),
            "Leases/Release": Unary(pb.ReleaseRequest, self.release),
            "Leases/List": Unary(pb.ListLeasesRequest, self.list),
            "Leases/Watch": ServerStream(pb.WatchLeasesRequest, self.watch),
        }

    async def acquire(self, request: pb.AcquireRequest, call: Call) -> pb.AcquireResponse:
        session = call.need_session()
        spec = DeviceSpec.parse(request.device_spec)
        seconds = request.wait_limit.seconds + request.wait_limit.nanos / 1e9
        if seconds < 0:
            raise BadArgument("wait_limit", f"{seconds} s", "a duration of 0 s or more")
        wait = math.inf if seconds >= FOR_EVER_SECONDS else seconds
        lease = await self._arbiter.acquire(session, spec, wait)
        return pb.AcquireResponse(lease=lease_to_wire(lease))

    async def release(self, request: pb.ReleaseRequest, call: Call) -> pb.ReleaseResponse:
        await self._arbiter.release(call.need_session(), request.lease_id)
        return pb.ReleaseResponse()

    async def list(self, request: pb.ListLeasesRequest, call: Call) -> pb.ListLeasesResponse:
        return pb.ListLeasesResponse(leases=map(lease_to_wire, self._arbiter.leases()))

    async def watch(
        self, request: pb.WatchLeasesRequest, call: Call
    ) -> AsyncIterator[pb.WatchLeasesResponse]:
        revision = 0
        while True:
            revision = await self._changes.beyond(revision)
            leases = map(lease_to_wire, self._arbiter.leases())
            yield pb.WatchLeasesResponse(revision=revision, leases=leases)
