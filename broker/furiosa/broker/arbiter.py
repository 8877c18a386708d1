"""The shell around the lease table: events in, one at a time; effects out, after the journal.

Nothing awaits between an event and the table's answer, so no two requests ever see the same core
free. Effects that take time (stopping workers) come back as events.
"""

import asyncio
import functools
import hmac
import itertools
import logging
import math
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from msgspec import structs

from furiosa.broker.alarm import Alarm
from furiosa.broker.changes import Changes
from furiosa.broker.devices import Foreign
from furiosa.broker.grants import Grant, Grants
from furiosa.broker.journal import Journal, Record, now
from furiosa.broker.lease import Card, Claim, Lease, Pools, PoolsEvent, Terms
from furiosa.broker.lease.life import left_behind
from furiosa.broker.lease.states import (
    NOBODY,
    UNTIL_RELEASED,
    USABLE,
    Cancelled,
    CardsChanged,
    Changed,
    Closed,
    Draining,
    Effect,
    Elapsed,
    Ended,
    ForeignHeld,
    Granted,
    Handed,
    HolderGone,
    NoLongerWanted,
    Queued,
    Quiesced,
    Recalled,
    Refused,
    Released,
    Renewed,
    Requested,
    SetAside,
    StopWorkers,
)
from furiosa.broker.lease_book import LeaseBook
from furiosa.broker.lease_views import LeaseViews
from furiosa.broker.observers import Observer
from furiosa.broker.queue_notices import QueueNotices, Tell
from furiosa.broker.refusals import Refusals
from furiosa.broker.sessions import Session
from furiosa.broker.syncing import Syncing
from furiosa.common.causes import SHUTTING_DOWN
from furiosa.common.clock import Clock
from furiosa.common.errors import (
    BrokerDraining,
    FuriosaError,
    LeaseEnded,
    NotLeaseOwner,
    NotRecorded,
)
from furiosa.common.names import DeviceFile
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import (
    LeaseEndedNotice,
    LeaseRecalledNotice,
    LeaseState,
    LeaseView,
    OwnerView,
    WaiterView,
)

log = logging.getLogger(__name__)

TELL_SECONDS: Final = 0.005
STOP_SECONDS: Final = 10.0  # for workers to be gone when the broker stops; the kernel may be stuck


@dataclass(frozen=True, slots=True)
class Workers:
    """What the arbiter asks of those who run the workers of a lease."""

    stop: Callable[[str, Callable[[], None]], None]  # lease; called when all have stopped
    detach_queues: Callable[[str], None]  # it has left its client, its programs stay


@dataclass(frozen=True, slots=True)
class Acquired:
    """`secret` resumes a lease that lingers; empty for others."""

    lease: LeaseView
    secret: str


@dataclass(slots=True)
class _Request:
    session: Session
    spec: DeviceSpec
    claim: Claim
    answer: "asyncio.Future[Acquired]"
    since: float  # wall clock
    on_queued: Tell | None


class Arbiter:
    """The only writer of the lease table. Methods must be called in the event loop's thread."""

    def __init__(
        self,
        table: Pools,
        journal: Journal,
        workers: Workers,
        observer: Observer,
        *,
        clock: Clock,
        changes: Changes,
    ) -> None:
        self._table = table
        self._journal = journal
        self._workers = workers
        self._observer = observer
        self._clock = clock
        self._changes = changes
        self._syncing = Syncing(journal, observer.journal_synced)
        self._inbox: deque[PoolsEvent] = deque()
        self._handling = False
        self._numbers = itertools.count(1)
        self._requests: dict[int, _Request] = {}
        self._grants = Grants()
        self._endings: dict[str, asyncio.Future[None]] = {}
        self._releasing: set[str] = set()  # by the session that holds them
        self._sessions: dict[int, Session] = {}
        self._refusals = Refusals(self._grants)
        self._views = LeaseViews(self._grants, self._refusals, clock)
        self.book = LeaseBook(table, self._grants, self._views)
        self._notices = QueueNotices(self._queue)
        self._alarm = Alarm(clock, self.elapsed)

    def request(
        self,
        session: Session,
        spec: DeviceSpec,
        wait_limit: float,
        claim: Claim,
        *,
        priority: int = 0,
        terms: Terms = UNTIL_RELEASED,
        on_queued: Tell | None = None,
        waited: float = 0.0,
    ) -> "asyncio.Future[Acquired]":
        """Ask for a lease on all files of `spec`. `wait_limit` in seconds: 0 refuses at once, inf waits.

        It counts as having waited for `waited` seconds already.
        `on_queued` is told where it waits, if it has to. Who wants no answer any more cancels the future
        or calls `withdraw`.
        The future raises: DeviceBusy, DeviceUnavailable, UnknownDevice, LimitExceeded, NotAllowed,
        BrokerDraining, NotRecorded.
        """
        self._give_up_for(session, spec)
        request = next(self._numbers)
        answer: asyncio.Future[Acquired] = asyncio.get_running_loop().create_future()
        since = now() - waited
        self._requests[request] = _Request(session, spec, claim, answer, since, on_queued)
        deadline = self._clock() + wait_limit if wait_limit > 0 else None
        self._post(Requested(request, session.id, spec, deadline, claim, priority, terms, waited))
        if answer.done():
            del self._requests[request]
        else:
            answer.add_done_callback(functools.partial(self._answered, request))
        return answer

    def withdraw(self, answer: "asyncio.Future[Acquired]") -> None:
        """The answer of `request` will not be used: a lease granted in this moment is released."""
        if not answer.done():
            answer.cancel()
        elif not answer.cancelled() and answer.exception() is None:
            self._post(Released(answer.result().lease.id, "the request was cancelled"))

    def _answered(self, request: int, answer: "asyncio.Future[Acquired]") -> None:
        if answer.cancelled():
            self._post(Cancelled(request))
        del self._requests[request]
        self._notices.left(request)

    def _give_up_for(self, session: Session, spec: DeviceSpec) -> None:
        """A process that asks for cores anew, instead of resuming the lease that it has on them from
        before a restart, will not come back for it.
        """
        for lease_id in self._grants.detached(session.owner.key):
            lease = self._table.get(lease_id)
            if lease is not None and lease.terms.linger == 0 and spec.may_want(lease.files):
                self._post(Released(lease_id, "its owner asked for devices anew"))

    def release(self, session: Session, lease_id: str) -> "asyncio.Future[None]":
        """Done when the cores are free; others wait for it too, so it must not be cancelled.

        Raises: UnknownLease, LeaseEnded, NotLeaseOwner.
        """
        lease = self.book.lease_of(session, lease_id)
        ending = self._endings[lease_id]
        if lease.holder == session.id:
            self._releasing.add(lease_id)
        self._post(Released(lease_id, "released by its owner"))
        return ending

    def renew(self, session: Session, lease_id: str, time_to_live: float | None) -> LeaseView:
        """Raises: UnknownLease, NotLeaseOwner, LeaseEnded, also when it is wanted back."""
        lease = self.book.lease_of(session, lease_id)
        if lease.state is LeaseState.RECALLED:
            raise LeaseEnded(lease_id, lease.cause)
        self._post(Renewed(lease_id, time_to_live))
        return self.book.view(lease_id)

    def resume(self, session: Session, lease_id: str, secret: str) -> LeaseView:
        """Make the lease the session's. Raises: UnknownLease, NotLeaseOwner, LeaseEnded."""
        grant, lease = self.book.find(lease_id)
        known = grant.secret and hmac.compare_digest(grant.secret, grant.digest(secret))
        if not known and grant.owner.key != session.owner.key:
            raise NotLeaseOwner(lease_id, session.owner.pid)
        if lease.state not in USABLE | {LeaseState.DETACHED}:
            raise LeaseEnded(lease_id, lease.cause)
        return self.hand(lease_id, session)

    def hand(self, lease_id: str, session: Session) -> LeaseView:
        """The lease belongs to `session` from now on; whether it may is for the caller to know."""
        former = self._grants[lease_id].session
        self._grants.hand(lease_id, session)
        self._post(Handed(lease_id, session.id))
        if former is not None and former is not session:
            heir = session.owner.view
            cause = f"it was handed to {heir.remote or f'pid {heir.pid}'}"
            former.notify(LeaseEndedNotice(lease_id, cause))
        return self.book.view(lease_id)

    def revoke(self, lease_id: str, cause: str, grace: float) -> LeaseView:
        """Tell its owner, and take it away after `grace` seconds. Raises: UnknownLease, LeaseEnded."""
        view = self.book.view(lease_id)
        self._post(Recalled(lease_id, cause, grace) if grace > 0 else Released(lease_id, cause))
        if self._table.get(lease_id) is None:
            return replace(view, state=LeaseState.ENDED, ends_at=None, cause=cause)
        return self.book.view(lease_id)

    def ending(self, lease_id: str) -> "asyncio.Future[None] | None":
        """Done when the lease's cores are free; None: it has ended."""
        return self._endings.get(lease_id)

    # What happens around it

    def session_opened(self, session: Session) -> None:
        self._sessions[session.id] = session

    def session_gone(self, session: Session, cause: str) -> None:
        self._sessions.pop(session.id, None)
        self._post(HolderGone(session.id, cause))

    def process_died(self, key: int) -> None:
        """For leases that wait for a process to come back which now cannot any more."""
        for lease_id in self._grants.detached(key):
            lease = self._table.get(lease_id)
            if lease is not None and lease.terms.linger == 0:
                self._post(Released(lease_id, "its owner died"))

    def set_cards(self, cards: Iterable[Card], grace: float) -> None:
        """What there is now; leases on cards that have gone have `grace` seconds."""
        self._post(CardsChanged(tuple(cards), grace))
        self._changes.bump()

    def set_closed(self, npu: int, role: str, reason: str | None, grace: float | None) -> None:
        """Grant nothing of a card; `grace` as in `Closed`. None as the reason opens it again."""
        self._post(Closed(npu, role, reason, grace))
        self._changes.bump()

    @property
    def foreign(self) -> Foreign:
        """The files that are open behind the broker's back, and who has them."""
        return self._refusals.foreign

    def set_foreign(self, held: Foreign) -> None:
        self._refusals.foreign = held
        self._post(ForeignHeld(frozenset(held)))
        self._changes.bump()

    def set_aside(
        self, reasons: Mapping[DeviceFile, str], pools: Mapping[str, tuple[DeviceFile, ...]]
    ) -> None:
        """Files that are not for everybody, and why, for people; and whose pools they are in, as far as
        they are in one. Nobody outside of it has a lease on what comes into a pool. Watchers are told
        soon: whoever asked for it is answered first, for all cards in one message take longer.
        """
        self._refusals.aside = reasons
        self._post(SetAside(frozenset(reasons), pools))
        asyncio.get_running_loop().call_later(TELL_SECONDS, self._changes.bump)

    def elapsed(self) -> None:
        """Time has passed; its alarm calls this when something is due."""
        self._post(Elapsed())

    def adopt(self, record: Record, grace: float, owner: OwnerView | None = None) -> bool:
        """Take over a lease from the journal; False when that cannot be. Its owner has `grace` seconds
        to come back, more if the lease lingers longer; as session `record.lease.holder` he is here.
        `owner` is what is known of him today.
        """
        lease, present = record.lease, self._sessions.get(record.lease.holder)
        if present is not None and present.owner.key == record.owner.key:
            owner = present.owner.view
        else:
            present = None
            lease = left_behind(lease, self._clock(), grace)
            owner = record.owner.view if owner is None else owner
        if not self._table.adopt(lease, record.weight, self._clock()):
            return False
        grant = Grant(record.owner, owner, present, record.granted_at, record.weight, record.secret)
        self._grants.add(lease.id, grant)
        self._endings[lease.id] = asyncio.get_running_loop().create_future()
        self._observer.adopted(lease, grant)
        self._alarm.set(self._table.next_deadline())
        return True

    def forget(self, record: Record) -> None:
        """A lease from the journal that is over: written down, so that the next start need not ask."""
        ended = structs.replace(
            record.lease, state=LeaseState.ENDED, cause="lost with a broker before"
        )
        try:
            self._journal.append(structs.replace(record, event="ended", lease=ended))
        except OSError as exc:
            self._observer.journal_failed(ended.id, exc)

    async def freeze(self) -> None:
        """Let answers that are due go out, then change nothing any more: what happens from now on is for
        a successor to find out, from the journal and from the clients.
        """
        await self._syncing.idle()
        self._handling = True
        for _ in range(2):  # answers become messages, and these are sent
            await asyncio.sleep(0)

    async def drain(self, grace: float) -> None:
        """Grant nothing more, give owners `grace` seconds to release, then revoke what is left. Bounded."""
        cause = SHUTTING_DOWN
        self._post(Draining())
        for lease in self._table.leases:
            if grace > 0:
                self._post(Recalled(lease.id, cause, grace))
        if self._endings:
            await asyncio.wait(tuple(self._endings.values()), timeout=grace)
        for lease in self._table.leases:
            self._post(Released(lease.id, cause))
        if self._endings:
            await asyncio.wait(tuple(self._endings.values()), timeout=STOP_SECONDS)

    def queue(self) -> tuple[WaiterView, ...]:
        """Who waits, in their turn."""
        return tuple(view for _, view in self._queue())

    def _queue(self) -> Iterator[tuple[int, WaiterView]]:
        for place in self._table.queue(self._clock()):
            request = place.waiter.requested.request
            asked = self._requests[request]
            yield request, self._views.waiter(place, asked.session, asked.since)

    # Events and effects

    def _post(self, event: PoolsEvent) -> None:
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
        self._alarm.set(self._table.next_deadline())

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Granted(request, lease, waited):
                self._granted(request, lease, waited)
            case Refused(request, _, NoLongerWanted()):
                answer = self._requests[request].answer
                if not answer.done():  # whoever asked has gone: nobody was refused anything
                    answer.set_exception(BrokerDraining())
                self._changes.bump()
            case Refused(request, _, _):
                refused = self._requests[request]
                self._refuse(refused, self._refusals.error(effect, refused.claim))
                self._changes.bump()
            case Queued(request):
                on_queued = self._requests[request].on_queued
                if on_queued is not None:
                    self._notices.joined(request, on_queued)
                self._changes.bump()
            case Changed(before, lease):
                self._changed(before, lease)
            case StopWorkers(lease):
                self._stop_workers(lease)
            case Ended(lease, held):
                self._ended(lease, held)

    def _granted(self, request: int, lease: Lease, waited: float) -> None:
        asked = self._requests[request]
        session = asked.session
        secret = secrets.token_hex(32) if lease.terms.linger > 0 else ""
        grant = Grant.to(session, asked.claim.weight, secret)
        self._grants.add(lease.id, grant)
        self._endings[lease.id] = asyncio.get_running_loop().create_future()
        try:
            self._journal.append(grant.record("granted", lease))
        except OSError as exc:
            # Nobody was told of this lease, so it must not exist. Its end needs no record either.
            self._inbox.append(Released(lease.id, f"the journal cannot be written: {exc}"))
            self._refuse(asked, NotRecorded(str(exc)))
            return
        self._observer.granted(lease, grant, waited)
        self._changes.bump()
        # the view of now: it may have ended before the caller gets to run
        acquired = Acquired(self._views.lease(lease), secret)
        self._syncing.then(functools.partial(self._tell, asked, acquired))

    def _tell(self, asked: _Request, acquired: Acquired, error: OSError | None) -> None:
        """The grant is as safe as the settings want it, or cannot be made so."""
        lease_id = acquired.lease.id
        if error is not None:
            self._refuse(asked, NotRecorded(str(error)))
            self._post(Released(lease_id, f"the journal cannot be written: {error}"))
        elif asked.answer.done():  # cancelled, and its Cancelled event came too late
            self._post(Released(lease_id, "the request was cancelled"))
        else:
            asked.answer.set_result(acquired)

    def _refuse(self, asked: _Request, error: FuriosaError) -> None:
        self._observer.refused(asked.session, asked.spec, asked.claim.tenant, error)
        if not asked.answer.done():
            asked.answer.set_exception(error)

    def _changed(self, before: Lease, lease: Lease) -> None:
        grant = self._grants[lease.id]
        if before.holder not in (NOBODY, lease.holder):
            self._workers.detach_queues(lease.id)  # whoever had it must not go on using it
            if lease.holder == NOBODY:
                self._grants.detach(lease.id)
        self._note("changed", lease)
        self._observer.changed(before, lease, grant)
        self._changes.bump()
        if (
            lease.state is not before.state
            and grant.session is not None
            and lease.ends_at < math.inf
        ):
            grace = max(0.0, lease.ends_at - self._clock())
            if lease.state in (LeaseState.EXPIRING, LeaseState.RECALLED):
                notice = LeaseRecalledNotice(lease.id, lease.cause, grace, lease.state)
                grant.session.notify(notice)

    def _stop_workers(self, lease: Lease) -> None:
        grant = self._grants[lease.id]
        self._changes.bump()
        if grant.session is not None:
            notice = LeaseEndedNotice(lease.id, lease.cause)
            if lease.id in self._releasing:  # its client is just being answered
                grant.session.notify_followers(notice)
            else:
                grant.session.notify(notice)
        self._workers.stop(lease.id, lambda: self._quiesced(lease.id))

    def _quiesced(self, lease_id: str) -> None:
        self._post(Quiesced(lease_id))

    def _ended(self, lease: Lease, held: float) -> None:
        self._note("ended", lease)
        self._observer.ended(lease, self._grants[lease.id], held)
        self.book.remember(lease)
        self._changes.bump()
        self._grants.remove(lease.id)
        self._releasing.discard(lease.id)
        self._endings.pop(lease.id).set_result(None)

    def _note(self, event: str, lease: Lease) -> None:
        """An end that cannot be written is no reason to keep the cores: the next start sorts it out."""
        try:
            self._journal.append(self._grants[lease.id].record(event, lease))
        except OSError as exc:
            self._observer.journal_failed(lease.id, exc)
