"""The shell around the lease table: events in, one at a time; effects out, after the journal.

Nothing awaits between an event and the table's answer, so no two requests ever see the same core
free. Effects that take time (stopping workers) come back as events.
"""

import asyncio
import itertools
import logging
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from furiosa.broker.changes import Changes
from furiosa.broker.journal import Journal, Record, now
from furiosa.broker.lease import (
    Cancelled,
    Draining,
    Effect,
    Elapsed,
    Ended,
    Event,
    Granted,
    HolderGone,
    Lease,
    LeaseTable,
    Quiesced,
    Refused,
    Released,
    Requested,
    StopWorkers,
)
from furiosa.broker.lease.states import Busy, NoLongerWanted, ShuttingDown, Unknown
from furiosa.broker.log import event as log_event
from furiosa.broker.sessions import Session
from furiosa.common.clock import Clock
from furiosa.common.errors import (
    BrokerDraining,
    DeviceBusy,
    FuriosaError,
    LeaseEnded,
    NotLeaseOwner,
    NotRecorded,
    UnknownDevice,
    UnknownLease,
)
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import LeaseEndedNotice, LeaseState, LeaseView

log = logging.getLogger(__name__)

ReleaseWorkers = Callable[[str, Callable[[], None]], None]  # lease id, called when all have stopped

STOP_SECONDS: Final = 10.0  # for workers to be gone when the broker stops; the kernel may be stuck
MAX_COMMAND: Final = 256  # of a holder, in errors: gRPC's trailers have room for 8 KiB in all
MAX_ENDED: Final = 1024  # causes of ended leases that are remembered for late callers


@dataclass(frozen=True, slots=True)
class _Grant:
    session: Session
    granted_at: float  # wall clock


class Arbiter:
    """The only writer of the lease table. Methods must be called in the event loop's thread."""

    def __init__(
        self,
        table: LeaseTable,
        journal: Journal,
        release_workers: ReleaseWorkers,
        *,
        clock: Clock,
        changes: Changes,
    ) -> None:
        self._table = table
        self._journal = journal
        self._release_workers = release_workers
        self._clock = clock
        self._changes = changes
        self._inbox: deque[Event] = deque()
        self._handling = False
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[LeaseView]] = {}
        self._requesters: dict[int, Session] = {}
        self._grants: dict[str, _Grant] = {}
        self._endings: dict[str, asyncio.Future[None]] = {}
        self._causes: dict[str, str] = {}  # of leases that are ending or have ended
        self._timer: asyncio.TimerHandle | None = None

    async def acquire(self, session: Session, spec: DeviceSpec, wait_limit: float) -> LeaseView:
        """A lease on all files of `spec`. `wait_limit` in seconds: 0 refuses at once, inf waits.

        Cancelling the call leaves nothing behind: a lease granted in that moment is released.
        Raises: DeviceBusy, UnknownDevice, BrokerDraining, NotRecorded.
        """
        request = next(self._numbers)
        answer: asyncio.Future[LeaseView] = asyncio.get_running_loop().create_future()
        self._answers[request], self._requesters[request] = answer, session
        deadline = self._clock() + wait_limit if wait_limit > 0 else None
        self._post(Requested(request, session.id, spec, deadline))
        try:
            return await answer
        except asyncio.CancelledError:
            self._post(Cancelled(request))
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                self._post(Released(answer.result().id, "the request was cancelled"))
            raise
        finally:
            self._answers.pop(request, None)
            self._requesters.pop(request, None)

    async def release(self, session: Session, lease_id: str) -> None:
        """Returns when the cores are free. Raises: UnknownLease, LeaseEnded, NotLeaseOwner."""
        self.lease_of(session, lease_id)
        ending = self._endings[lease_id]
        self._post(Released(lease_id, "released by its owner"))
        await asyncio.shield(ending)

    def holder_gone(self, session: Session, cause: str) -> None:
        self._post(HolderGone(session.id, cause))

    def revoke(self, lease_id: str, cause: str) -> None:
        self._post(Released(lease_id, cause))

    async def drain(self, grace: float) -> None:
        """Grant nothing more, give owners `grace` seconds to release, then revoke what is left. Bounded."""
        self._post(Draining())
        if self._endings:
            await asyncio.wait(tuple(self._endings.values()), timeout=grace)
        for lease in self._table.leases:
            self._post(Released(lease.id, "the broker is shutting down"))
        if self._endings:
            await asyncio.wait(tuple(self._endings.values()), timeout=STOP_SECONDS)

    def leases(self) -> tuple[LeaseView, ...]:
        return tuple(map(self._view, self._table.leases))

    def lease_of(self, session: Session, lease_id: str) -> Lease:
        """The granted lease, when `session` may use it.

        Raises: UnknownLease, NotLeaseOwner, LeaseEnded (also while it is being revoked).
        """
        grant = self._grants.get(lease_id)
        if grant is None:
            if lease_id in self._causes:
                raise LeaseEnded(lease_id, self._causes[lease_id])
            raise UnknownLease(lease_id)
        if not session.same_process(grant.session):
            raise NotLeaseOwner(lease_id, session.owner.pid)
        lease = self._table.get(lease_id)
        if lease is None or lease.state is not LeaseState.GRANTED:
            raise LeaseEnded(lease_id, self._causes.get(lease_id, ""))
        return lease

    def session_of(self, lease_id: str) -> Session | None:
        grant = self._grants.get(lease_id)
        return None if grant is None else grant.session

    def _post(self, event: Event) -> None:
        """Handle the event now, or after the one that is being handled."""
        self._inbox.append(event)
        if self._handling:
            return
        self._handling = True
        try:
            while self._inbox:
                for effect in self._table.handle(self._inbox.popleft(), now=self._clock()):
                    self._perform(effect)
        finally:
            self._handling = False
        self._arm_timer()

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Granted(request, lease):
                self._granted(request, lease)
            case Refused():
                self._refused(effect)
            case StopWorkers(lease, cause):
                self._stop_workers(lease, cause)
            case Ended(lease):
                self._ended(lease)

    def _granted(self, request: int, lease: Lease) -> None:
        session = self._requesters[request]
        grant = _Grant(session, now())
        self._grants[lease.id] = grant
        self._endings[lease.id] = asyncio.get_running_loop().create_future()
        answer = self._answers[request]
        try:
            self._journal.append(self._record("granted", lease, ""))
        except OSError as exc:
            # Nobody was told of this lease, so it must not exist. Its end needs no record either.
            self._inbox.append(Released(lease.id, f"the journal cannot be written: {exc}"))
            _fail(answer, NotRecorded(str(exc)))
            return
        self._changed("lease.granted", lease)
        if answer.done():  # cancelled, and its Cancelled event came too late
            self._inbox.append(Released(lease.id, "the request was cancelled"))
        else:
            answer.set_result(
                self._view(lease)
            )  # now: it may have ended before the caller gets to run

    def _refused(self, effect: Refused) -> None:
        answer = self._answers[effect.request]
        error: FuriosaError
        match effect.refusal:
            case Unknown():
                error = UnknownDevice(str(effect.spec))
            case Busy(lease, file):
                grant = None if lease is None else self._grants.get(lease)
                if grant is None:
                    error = DeviceBusy(str(effect.spec))
                else:
                    owner = grant.session.owner
                    command = owner.command_line[:MAX_COMMAND]
                    error = DeviceBusy(str(effect.spec), str(file), owner.pid, command)
            case ShuttingDown() | NoLongerWanted():
                error = BrokerDraining()
        log_event(log, "lease.refused", spec=effect.spec, cause=error)
        _fail(answer, error)

    def _stop_workers(self, lease: Lease, cause: str) -> None:
        self._causes[lease.id] = cause
        while len(self._causes) > MAX_ENDED:
            del self._causes[next(iter(self._causes))]
        self._note("revoking", lease, cause)
        self._changed("lease.revoking", lease, cause=cause)
        self._grants[lease.id].session.notify(LeaseEndedNotice(lease.id, cause))
        self._release_workers(lease.id, lambda: self._post(Quiesced(lease.id)))

    def _ended(self, lease: Lease) -> None:
        self._note("ended", lease, self._causes.get(lease.id, ""))
        self._changed("lease.ended", lease)
        del self._grants[lease.id]
        self._endings.pop(lease.id).set_result(None)

    def _note(self, event: str, lease: Lease, cause: str) -> None:
        """An end that cannot be written is no reason to keep the cores: the next start sorts it out."""
        try:
            self._journal.append(self._record(event, lease, cause))
        except OSError as exc:
            log_event(log, "journal.failed", logging.ERROR, lease=lease.id, cause=exc)

    def _record(self, event: str, lease: Lease, cause: str) -> Record:
        owner = self._grants[lease.id].session.owner
        devices = tuple(map(str, lease.files))
        return Record(event, lease.id, devices, owner.pid, owner.uid, cause, now())  # type: ignore[arg-type]  # event is one of three literals

    def _changed(self, name: str, lease: Lease, **fields: str) -> None:
        device, pid = ",".join(map(str, lease.files)), self._grants[lease.id].session.owner.pid
        log_event(log, name, lease=lease.id, device=device, pid=pid, **fields)
        self._changes.bump()

    def _view(self, lease: Lease) -> LeaseView:
        grant = self._grants[lease.id]
        return LeaseView(
            lease.id, lease.files, lease.state, grant.session.owner_view, grant.granted_at
        )

    def _arm_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._table.next_deadline()
        if not math.isinf(deadline):
            delay = max(0.0, deadline - self._clock())
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(delay, self._post, Elapsed())


def _fail(answer: asyncio.Future[LeaseView], error: FuriosaError) -> None:
    if not answer.done():
        answer.set_exception(error)
