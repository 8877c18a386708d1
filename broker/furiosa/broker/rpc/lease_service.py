"""Leases: convert, ask the arbiter, convert."""

import math
from collections.abc import AsyncIterator, Mapping
from typing import Final

from google.protobuf.duration_pb2 import Duration

from furiosa.broker.arbiter import Arbiter
from furiosa.broker.changes import Changes
from furiosa.broker.lease import Terms
from furiosa.broker.owners import descends
from furiosa.broker.rpc.methods import Call, Method, ServerStream, Unary
from furiosa.broker.sessions import Sessions
from furiosa.broker.tenancy import Tenancy, claim_of
from furiosa.common.errors import BadArgument, LimitExceeded, NotAllowed
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import LeaseOverview, QueuedNotice, WaiterView
from furiosa.common.wire import lease_to_wire, overview_to_wire
from furiosa.proto.broker.v1 import leases_pb2 as pb

FOR_EVER_SECONDS: Final = 10 * 365 * 24 * 3600  # a wait limit from here on has no end


class LeaseService:
    """`max_linger` bounds how long a lease may outlive its connection, in seconds."""

    def __init__(
        self,
        arbiter: Arbiter,
        sessions: Sessions,
        tenancy: Tenancy,
        changes: Changes,
        *,
        max_linger: float,
    ) -> None:
        self._arbiter = arbiter
        self._sessions = sessions
        self._tenancy = tenancy
        self._changes = changes
        self._max_linger = max_linger

    @property
    def methods(self) -> Mapping[str, Method]:
        return {
            "Leases/Acquire": Unary(pb.AcquireRequest, self.acquire),
            "Leases/Release": Unary(pb.ReleaseRequest, self.release),
            "Leases/Renew": Unary(pb.RenewRequest, self.renew),
            "Leases/Resume": Unary(pb.ResumeRequest, self.resume),
            "Leases/Transfer": Unary(pb.TransferRequest, self.transfer),
            "Leases/List": Unary(pb.ListLeasesRequest, self.list),
            "Leases/Watch": ServerStream(pb.WatchLeasesRequest, self.watch),
        }

    async def acquire(self, request: pb.AcquireRequest, call: Call) -> pb.AcquireResponse:
        session = call.need_session()
        policy = self._tenancy.ask(session)
        spec = DeviceSpec.parse(request.device_spec)
        wait = seconds_of("wait_limit", request.wait_limit)
        priority = request.priority if request.HasField("priority") else policy.priority
        if priority > policy.max_priority:
            what = f"ask for priority {priority}, its highest is {policy.max_priority}"
            raise NotAllowed(policy.name, what)
        linger = seconds_of("linger", request.linger)
        if linger > self._max_linger:
            raise LimitExceeded("linger in seconds", math.ceil(linger), int(self._max_linger))
        time_to_live = seconds_of("time_to_live", request.time_to_live)

        def queued(view: WaiterView) -> None:
            session.send_notice(QueuedNotice(call.id, view.position, view.reason))

        wants_notices = request.queue_notices == pb.QUEUE_NOTICES_ON_CHANGE
        acquired = await self._arbiter.acquire(
            session,
            spec,
            math.inf if wait >= FOR_EVER_SECONDS else wait,
            claim_of(policy),
            priority=priority,
            terms=Terms(time_to_live or None, linger),
            on_queued=queued if wants_notices else None,
        )
        return pb.AcquireResponse(lease=lease_to_wire(acquired.lease), secret=acquired.secret)

    async def release(self, request: pb.ReleaseRequest, call: Call) -> pb.ReleaseResponse:
        await self._arbiter.release(call.need_session(), request.lease_id)
        return pb.ReleaseResponse()

    async def renew(self, request: pb.RenewRequest, call: Call) -> pb.RenewResponse:
        time_to_live = seconds_of("time_to_live", request.time_to_live)
        lease = self._arbiter.renew(call.need_session(), request.lease_id, time_to_live or None)
        return pb.RenewResponse(lease=lease_to_wire(lease))

    async def resume(self, request: pb.ResumeRequest, call: Call) -> pb.ResumeResponse:
        lease = self._arbiter.resume(call.need_session(), request.lease_id, request.secret)
        return pb.ResumeResponse(lease=lease_to_wire(lease))

    async def transfer(self, request: pb.TransferRequest, call: Call) -> pb.TransferResponse:
        session = call.need_session()
        self._arbiter.lease_of(session, request.lease_id)
        heir = self._sessions.of_process(request.pid)
        if heir is None:
            expected = "a process with a session of its own"
            raise BadArgument("pid", str(request.pid), expected)
        if session.owner.pid == 0 or not descends(heir.owner.pid, session.owner.pid):
            raise BadArgument("pid", str(request.pid), f"a descendant of pid {session.owner.pid}")
        return pb.TransferResponse(lease=lease_to_wire(self._arbiter.hand(request.lease_id, heir)))

    async def list(self, request: pb.ListLeasesRequest, call: Call) -> pb.ListLeasesResponse:
        return overview_to_wire(self._overview())

    async def watch(
        self, request: pb.WatchLeasesRequest, call: Call
    ) -> AsyncIterator[pb.WatchLeasesResponse]:
        revision = request.after_revision
        while True:
            await self._changes.beyond(revision)
            overview = overview_to_wire(self._overview())
            revision = overview.revision
            yield pb.WatchLeasesResponse(
                revision=revision, leases=overview.leases, waiters=overview.waiters
            )

    def _overview(self) -> LeaseOverview:
        arbiter = self._arbiter
        return LeaseOverview(arbiter.leases(), arbiter.queue(), self._changes.revision)


def seconds_of(name: str, duration: Duration) -> float:
    """Raises: BadArgument."""
    seconds = duration.seconds + duration.nanos / 1e9
    if seconds < 0:
        raise BadArgument(name, f"{seconds} s", "a duration of 0 s or more")
    return seconds
