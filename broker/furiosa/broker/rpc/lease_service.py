"""Leases: convert, ask the arbiter, convert."""

import asyncio
import functools
import math
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from furiosa.broker.arbiter import Acquired, Arbiter
from furiosa.broker.changes import Changes
from furiosa.broker.lease import Terms
from furiosa.broker.owners import descends
from furiosa.broker.reservations import Access
from furiosa.broker.rpc.methods import Call, Method, Prompt, ServerStream
from furiosa.broker.sessions import Session, Sessions
from furiosa.broker.tenancy import Tenancy, claim_of
from furiosa.broker.tenants.policy import TenantPolicy
from furiosa.common.errors import (
    BadArgument,
    FuriosaError,
    LimitExceeded,
    NotAllowed,
    RateLimited,
)
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import LeaseOverview, QueuedNotice, WaiterView
from furiosa.common.wire import lease_to_wire, overview_to_wire
from furiosa.proto.broker.v1 import leases_pb2 as pb

_T = TypeVar("_T")
_spec: Final = functools.lru_cache(maxsize=256)(DeviceSpec.parse)  # the same few come all day

FOR_EVER_SECONDS: Final = 10 * 365 * 24 * 3600  # a wait limit from here on has no end


class LeaseService:
    """`on_refused` is told what a tenant's rules refuse before the arbiter is asked.

    `max_linger` bounds how long a lease may outlive its connection, in seconds.
    """

    def __init__(
        self,
        arbiter: Arbiter,
        sessions: Sessions,
        tenancy: Tenancy,
        access: Access,
        changes: Changes,
        on_refused: Callable[[Session, DeviceSpec, str, FuriosaError], None],
        *,
        max_linger: float,
    ) -> None:
        self._arbiter = arbiter
        self._sessions = sessions
        self._tenancy = tenancy
        self._access = access
        self._changes = changes
        self._on_refused = on_refused
        self._max_linger = max_linger

    @property
    def methods(self) -> Mapping[str, Method]:
        return {
            "Leases/Acquire": Prompt(pb.AcquireRequest, self.acquire),
            "Leases/Release": Prompt(pb.ReleaseRequest, self.release),
            "Leases/Renew": Prompt(pb.RenewRequest, self.renew),
            "Leases/Resume": Prompt(pb.ResumeRequest, self.resume),
            "Leases/Transfer": Prompt(pb.TransferRequest, self.transfer),
            "Leases/List": Prompt(pb.ListLeasesRequest, self.list),
            "Leases/Watch": ServerStream(pb.WatchLeasesRequest, self.watch),
        }

    def acquire(
        self, request: pb.AcquireRequest, call: Call
    ) -> "pb.AcquireResponse | asyncio.Future[Message]":
        session = call.need_session()
        spec = _spec(request.device_spec)
        try:
            policy, priority = self._allowed(request, call)
            permit = self._access.permit(session, spec)
        except (NotAllowed, RateLimited) as exc:
            self._on_refused(session, spec, exc.tenant, exc)
            raise
        limit = seconds_of("wait_limit", request.wait_limit)
        wait = math.inf if limit >= FOR_EVER_SECONDS else max(0.0, limit - call.waited)
        linger = seconds_of("linger", request.linger)
        if linger > self._max_linger:
            raise LimitExceeded("linger in seconds", math.ceil(linger), int(self._max_linger))
        time_to_live = seconds_of("time_to_live", request.time_to_live)

        answer = self._arbiter.request(
            session,
            permit.spec,
            wait,
            claim_of(policy, permit.pool),
            priority=priority,
            terms=Terms(time_to_live or None, linger),
            on_queued=_queued(call)
            if request.queue_notices == pb.QUEUE_NOTICES_ON_CHANGE
            else None,
            waited=call.waited,
        )
        if answer.done():
            return _acquired(answer.result())
        call.undo = functools.partial(self._arbiter.withdraw, answer)
        return _converted(answer, _acquired, call.undo)

    def _allowed(self, request: pb.AcquireRequest, call: Call) -> tuple[TenantPolicy, int]:
        """Under which policy, and with what priority. Raises: NotAllowed, RateLimited."""
        session = call.need_session()
        again = call.waited > 0  # of a broker before; it counted there
        policy = self._tenancy.policy(session) if again else self._tenancy.ask(session)
        priority = request.priority if request.HasField("priority") else policy.priority
        if priority > policy.max_priority:
            what = f"ask for priority {priority}, its highest is {policy.max_priority}"
            raise NotAllowed(policy.name, what)
        return policy, priority

    def release(
        self, request: pb.ReleaseRequest, call: Call
    ) -> "pb.ReleaseResponse | asyncio.Future[Message]":
        ending = self._arbiter.release(call.need_session(), request.lease_id)
        if ending.done():
            return pb.ReleaseResponse()
        return _converted(ending, lambda _: pb.ReleaseResponse(), lambda: None)

    def renew(self, request: pb.RenewRequest, call: Call) -> pb.RenewResponse:
        time_to_live = seconds_of("time_to_live", request.time_to_live)
        lease = self._arbiter.renew(call.need_session(), request.lease_id, time_to_live or None)
        return pb.RenewResponse(lease=lease_to_wire(lease))

    def resume(self, request: pb.ResumeRequest, call: Call) -> pb.ResumeResponse:
        session = call.need_session()
        if request.secret:  # whom it was granted to may have his own back without one
            self._tenancy.policy(session)
            self._check(session, request.lease_id)
        lease = self._arbiter.resume(session, request.lease_id, request.secret)
        return pb.ResumeResponse(lease=lease_to_wire(lease))

    def transfer(self, request: pb.TransferRequest, call: Call) -> pb.TransferResponse:
        session = call.need_session()
        self._arbiter.book.lease_of(session, request.lease_id)
        heir = self._sessions.of_process(request.pid)
        if heir is None:
            expected = "a process with a session of its own"
            raise BadArgument("pid", str(request.pid), expected)
        if session.owner.pid == 0 or not descends(heir.owner.pid, session.owner.pid):
            raise BadArgument("pid", str(request.pid), f"a descendant of pid {session.owner.pid}")
        self._tenancy.policy(heir)  # a stranger is no heir
        self._check(heir, request.lease_id)
        return pb.TransferResponse(lease=lease_to_wire(self._arbiter.hand(request.lease_id, heir)))

    def _check(self, heir: Session, lease_id: str) -> None:
        """Raises: NotAllowed, UnknownLease, LeaseEnded."""
        book = self._arbiter.book
        self._access.check(heir, book.view(lease_id), book.pool_of(lease_id))

    def list(self, request: pb.ListLeasesRequest, call: Call) -> pb.ListLeasesResponse:
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
        return LeaseOverview(arbiter.book.leases(), arbiter.queue(), self._changes.revision)


def _queued(call: Call) -> Callable[[WaiterView], None]:
    """Tells the caller where it waits, as often as that changes."""
    session = call.need_session()
    return lambda view: session.send_notice(QueuedNotice(call.id, view.position, view.reason))


def _acquired(acquired: Acquired) -> pb.AcquireResponse:
    return pb.AcquireResponse(lease=lease_to_wire(acquired.lease), secret=acquired.secret)


def _converted(
    answer: "asyncio.Future[_T]", convert: Callable[[_T], Message], undo: Callable[[], None]
) -> "asyncio.Future[Message]":
    """The answer as a message. `undo` is called when that is cancelled."""
    converted: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    def settle(answer: "asyncio.Future[_T]") -> None:
        if converted.done() or answer.cancelled():
            return
        if (exc := answer.exception()) is not None:
            converted.set_exception(exc)
        else:
            converted.set_result(convert(answer.result()))

    def cancelled(converted: "asyncio.Future[Message]") -> None:
        if converted.cancelled():
            undo()

    answer.add_done_callback(settle)
    converted.add_done_callback(cancelled)
    return converted


def seconds_of(name: str, duration: Duration) -> float:
    """Raises: BadArgument."""
    seconds = duration.seconds + duration.nanos / 1e9
    if seconds < 0:
        raise BadArgument(name, f"{seconds} s", "a duration of 0 s or more")
    return seconds
