"""Decides: an event and the time go in, effects come out. The arbiter is its only caller.

What is free is kept card by card and a request looks only at the cards it may use. Whenever something
may have changed for those who wait, one pass in the order of their turn grants what can be granted, and
holds free cores back for those who cannot be served yet. The pass ends as soon as no free core is left
to give, which in a busy node is at once.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from furiosa.broker.lease import placement
from furiosa.broker.lease.cards import Card
from furiosa.broker.lease.deadlines import Deadlines
from furiosa.broker.lease.estate import Estate
from furiosa.broker.lease.fairness import Shares
from furiosa.broker.lease.held import Held
from furiosa.broker.lease.life import moved
from furiosa.broker.lease.placement import Ordered, Policy, Reserved
from furiosa.broker.lease.preemption import Preemptors
from furiosa.broker.lease.queue import QueuePlace, in_the_way, places
from furiosa.broker.lease.states import (
    Cancelled,
    CardsChanged,
    Changed,
    Claim,
    Closed,
    Detached,
    Draining,
    Effect,
    Elapsed,
    Ended,
    Event,
    Expired,
    ForeignHeld,
    GraceOver,
    Granted,
    Handed,
    HolderGone,
    Lease,
    Left,
    NoLongerWanted,
    Obstacle,
    Queued,
    Quiesced,
    Quota,
    Recalled,
    Refusal,
    Refused,
    Released,
    Renewed,
    Requested,
    ShuttingDown,
    StopWorkers,
)
from furiosa.broker.lease.waiting import Group, Kind, Waiter, WaitingLine
from furiosa.common.names import DeviceFile
from furiosa.common.views import LeaseState


class Rules(Struct, frozen=True):
    """Durations in seconds."""

    policy: Policy = Policy.PACK
    aging: float = 30.0  # of waiting, for one step of priority
    recall_grace: float = 10.0  # of an owner whose lease has expired, or is preempted


DEFAULT: Final = Rules()


class LeaseTable:
    """Exclusive leases on `cards`. Deterministic: ids come from `new_id`, time from the caller."""

    def __init__(
        self, cards: Iterable[Card], new_id: Callable[[], str], rules: Rules = DEFAULT
    ) -> None:
        self._estate = Estate(cards)
        self._new_id = new_id
        self._rules = rules
        self._held = Held()
        self._line = WaitingLine(rules.aging)
        self._shares = Shares()
        self._request_deadlines: Deadlines[int] = Deadlines()
        self._next_turn = math.inf  # when the order of those who wait may have changed by itself
        self._preemptors = Preemptors()
        self._draining = False

    @property
    def leases(self) -> tuple[Lease, ...]:
        return tuple(self._held.by_id.values())

    def has_card(self, npu: int) -> bool:
        return npu in self._estate.cards.by_npu

    @property
    def waiting(self) -> int:
        return len(self._line)

    def get(self, lease: str) -> Lease | None:
        return self._held.get(lease)

    def leases_on(self, npu: int) -> tuple[Lease, ...]:
        return tuple(self._held.by_id[lease] for lease in self._estate.on(npu))

    def closed(self, npu: int) -> dict[str, str]:
        """Why nothing of the card is granted, by role; empty when it is open."""
        return self._estate.closed(npu)

    def next_deadline(self) -> float:
        """When `Elapsed` has work to do; inf: never."""
        return min(self._held.next_deadline(), self._request_deadlines.next(), self._next_turn)

    def queue(self, now: float) -> Iterator[QueuePlace]:
        """Those who wait, in their turn."""
        return places(self._line.in_turn(self._shares, now), self._obstacle)

    def adopt(self, lease: Lease, weight: float, now: float) -> bool:
        """Take over a lease from before, e.g. from the journal; False when its cores are not free here.

        It must not have ended; a core of a closed card counts as free.
        """
        if lease.id in self._held.by_id or not self._estate.can_take(lease.files):
            return False
        self._keep(replace(lease, cores=self._estate.count(lease.files)), weight, now)
        return True

    def handle(self, event: Event, *, now: float) -> tuple[Effect, ...]:
        """Effects in the order they must happen. An event about something unknown has none."""
        match event:
            case Requested():
                return tuple(self._requested(event, now))
            case Cancelled(request):
                self._forget(request, now)
                return tuple(self._serve(now))
            case Elapsed():
                return tuple(self._elapsed(now))
            case Released(lease) | Renewed(lease) | Handed(lease) | Recalled(lease):
                found = self._held.get(lease)
                return () if found is None else tuple(self._happens(found, event, now))
            case HolderGone():
                return tuple(self._holder_gone(event, now))
            case Quiesced(lease):
                return tuple(self._quiesced(lease, event, now))
            case Draining():
                self._draining = True
                return tuple(self._refuse_all(now))
            case CardsChanged():
                return tuple(self._cards_changed(event, now))
            case Closed():
                return tuple(self._closed(event, now))
            case ForeignHeld(files):
                self._estate.mark(files)
                return tuple(self._settle(now))

    # Requests

    def _requested(self, event: Requested, now: float) -> Iterator[Effect]:
        if self._draining:
            yield Refused(event.request, event.spec, ShuttingDown())
            return
        spec = Ordered.of(event.spec)
        allowed = self._estate.reach(spec, event.claim.cards)
        if not len(self._line):
            policy = self._rules.policy
            files = placement.place(
                self._estate.cards, spec, allowed, Reserved(self._estate.cards), policy
            )
            if files is not None and self._within_quota(event.claim, self._estate.count(files)):
                yield self._grant(event, files, now - event.waited, now)
                return
        hopeless = self._hopeless(event.claim, spec, allowed)
        if not isinstance(hopeless, int):
            yield Refused(event.request, event.spec, hopeless)
            return
        # Whoever asks joins the queue, and leaves it again at once unless it is its turn: so that
        # what those ahead are waiting for is not taken from under them.
        since = now - event.waited
        waiter = self._line.append(event, spec, allowed, hopeless, since)
        self._shares.wait(event.claim.tenant, event.claim.weight, 1, now)
        yield from self._serve(now)
        if self._line.get(event.request) is None:
            return
        if (obstacle := self._must_not_wait(waiter, now)) is not None:
            self._forget(event.request, now)
            yield Refused(event.request, event.spec, obstacle)
            return
        assert event.deadline is not None
        self._request_deadlines.set(event.request, event.deadline)
        self._set_next_turn(now)
        yield Queued(event.request)
        if event.claim.may_preempt:
            self._preemptors.add(event.request, event.priority)
            yield from self._preempt(now)

    def _hopeless(self, claim: Claim, spec: Ordered, allowed: int) -> Refusal | int:
        """Why no waiting would help; else how many cores it will have."""
        cores = self._estate.prospect(spec, allowed)
        if isinstance(cores, int) and claim.max_cores is not None and cores > claim.max_cores:
            return Quota("cores of the tenant", cores, claim.max_cores)
        return cores

    def _must_not_wait(self, waiter: Waiter, now: float) -> Obstacle | None:
        requested = waiter.requested
        if requested.deadline is None or requested.deadline <= now:
            return self._obstacle(waiter)
        most = requested.claim.max_waiting
        waiting = self._shares.waiting(requested.claim.tenant)
        if most is not None and waiting > most:
            return Quota("waiting requests of the tenant", waiting, most)
        return None

    def _within_quota(self, claim: Claim, cores: int) -> bool:
        return claim.max_cores is None or (
            self._shares.cores(claim.tenant) + cores <= claim.max_cores
        )

    def _serve(self, now: float) -> Iterator[Effect]:
        """Grant to waiters, in their turn; what one must go on waiting for is kept from later ones."""
        if len(self._line) and self._estate.cards.free_cores:
            reserved = Reserved(self._estate.cards)
            in_vain: set[Kind | Group] = (
                set()
            )  # whose next would neither be served nor hold anything

            def can_matter(waiter: Waiter) -> bool:
                if not waiter.allowed & reserved.places:
                    return False
                return not in_vain or (waiter.kind not in in_vain and waiter.group not in in_vain)

            for waiter in self._line.in_turn(self._shares, now, can_matter):
                claim, spec, allowed = waiter.requested.claim, waiter.spec, waiter.allowed
                files = placement.place(
                    self._estate.cards, spec, allowed, reserved, self._rules.policy
                )
                cores = waiter.cores if files is None else self._estate.count(files)
                if not self._within_quota(claim, cores):
                    # its own tenant is in the way: others need not wait for that
                    in_vain.add(waiter.group)
                elif files is not None:
                    reserved.leave(files)
                    self._forget(waiter.requested.request, now)
                    yield self._grant(waiter.requested, files, waiter.since, now)
                elif not placement.hold(self._estate.cards, spec, allowed, reserved):
                    in_vain.add(waiter.kind)
        self._set_next_turn(now)

    def _set_next_turn(self, now: float) -> None:
        """Only where there is something to give can a changed order mean that somebody gets it."""
        gives = len(self._line) and self._estate.cards.free_cores
        self._next_turn = now + self._rules.aging if gives else math.inf

    def _forget(self, request: int, now: float) -> None:
        waiter = self._line.remove(request)
        if waiter is not None:
            self._request_deadlines.drop(request)
            self._preemptors.discard(request)
            self._shares.wait(waiter.requested.claim.tenant, None, -1, now)

    def _refuse_all(self, now: float) -> Iterator[Effect]:
        for waiter in self._line:
            self._forget(waiter.requested.request, now)
            yield Refused(waiter.requested.request, waiter.requested.spec, ShuttingDown())

    def _settle(self, now: float) -> Iterator[Effect]:
        """What may be had may have changed for all."""
        yield from self._serve(now)
        yield from self._preempt(now)

    def _preempt(self, now: float) -> Iterator[Effect]:
        """Recall what those who may preempt need, and no more than they need."""
        if self._preemptors.highest <= self._held.least_priority:
            return  # nobody is less important than any of them

        def may(waiter: Waiter) -> bool:
            claim = waiter.requested.claim
            return claim.may_preempt and self._within_quota(claim, waiter.cores)

        waiters = self._line.in_turn(self._shares, now, may)
        for lease, waiter in self._preemptors.victims(
            self._estate.cards, self._held.by_id, waiters
        ):
            cause = f"preempted by tenant {waiter.requested.claim.tenant}"
            event = Recalled(lease.id, cause, self._rules.recall_grace)
            yield from self._happens(lease, event, now)

    def _obstacle(self, waiter: Waiter) -> Obstacle:
        claim = waiter.requested.claim
        if not self._within_quota(claim, waiter.cores):
            value = self._shares.cores(claim.tenant) + waiter.cores
            return Quota("cores of the tenant", value, claim.max_cores or 0)
        return in_the_way(waiter, self._estate.cards, self._estate.foreign)

    # Leases

    def _grant(
        self, requested: Requested, files: tuple[DeviceFile, ...], since: float, now: float
    ) -> Granted:
        ttl = requested.terms.time_to_live
        expires = math.inf if ttl is None else now + ttl
        lease = Lease(
            id=self._new_id(),
            holder=requested.holder,
            files=files,
            state=LeaseState.GRANTED,
            tenant=requested.claim.tenant,
            priority=requested.priority,
            terms=requested.terms,
            granted_at=now,
            expires_at=expires,
            ends_at=expires,
            cores=self._estate.count(files),
        )
        self._keep(lease, requested.claim.weight, now)
        return Granted(requested.request, lease, now - since)

    def _keep(self, lease: Lease, weight: float, now: float) -> None:
        self._estate.take(lease)
        self._shares.hold(lease.tenant, weight, lease.cores, now)
        self._held.add(lease)

    def _happens(self, lease: Lease, event: object, now: float) -> Iterator[Effect]:
        after = moved(lease, event, now, self._rules.recall_grace)
        if after is None:
            return
        self._held.put(after)
        if after.state is LeaseState.REVOKING:
            yield StopWorkers(after)
        elif after != lease:
            yield Changed(lease, after)

    def _quiesced(self, lease_id: str, event: Quiesced, now: float) -> Iterator[Effect]:
        lease = self._held.get(lease_id)
        ended = None if lease is None else moved(lease, event, now, self._rules.recall_grace)
        if lease is None or ended is None:
            return
        self._held.remove(lease)
        self._estate.give_back(lease)
        self._shares.hold(lease.tenant, None, -lease.cores, now)
        yield Ended(ended, now - lease.granted_at)
        yield from self._settle(now)

    def _holder_gone(self, event: HolderGone, now: float) -> Iterator[Effect]:
        for waiter in self._line:
            requested = waiter.requested
            if requested.holder == event.holder:
                self._forget(requested.request, now)
                yield Refused(requested.request, requested.spec, NoLongerWanted())
        for lease_id in self._held.of(event.holder):
            lease = self._held.by_id[lease_id]
            kind = Detached if lease.terms.linger > 0 else Left
            yield from self._happens(lease, kind(event.cause), now)
        yield from self._serve(now)

    def _elapsed(self, now: float) -> Iterator[Effect]:
        for lease in self._held.due(now):
            in_term = lease.state in (LeaseState.GRANTED, LeaseState.DETACHED)
            over = in_term and lease.expires_at <= now
            yield from self._happens(lease, Expired() if over else GraceOver(), now)
        for request in tuple(self._request_deadlines.due(now)):
            waiter = self._line.get(request)
            if waiter is not None:
                obstacle = self._obstacle(waiter)
                self._forget(request, now)
                yield Refused(request, waiter.requested.spec, obstacle)
        yield from self._serve(now)

    # Cards

    def _cards_changed(self, event: CardsChanged, now: float) -> Iterator[Effect]:
        for lease in self._estate.renew(event.cards, self.leases):
            gone = [file for file in lease.files if not self._estate.has(file)]
            if gone:
                recalled = Recalled(lease.id, f"{gone[0]} is gone", event.grace)
                yield from self._happens(lease, recalled, now)
        self._preemptors.plan_anew()
        known: dict[tuple[Claim, Ordered], tuple[int, int | Refusal]] = {}
        for waiter in self._line:
            requested = waiter.requested
            kind = requested.claim, waiter.spec
            if kind not in known:
                allowed = self._estate.reach(waiter.spec, requested.claim.cards)
                known[kind] = allowed, self._hopeless(requested.claim, waiter.spec, allowed)
            allowed, hopeless = known[kind]
            if isinstance(hopeless, int):
                self._line.replace(replace(waiter, allowed=allowed, cores=hopeless))
            else:
                self._forget(requested.request, now)
                yield Refused(requested.request, requested.spec, hopeless)
        yield from self._settle(now)

    def _closed(self, event: Closed, now: float) -> Iterator[Effect]:
        if not self._estate.close(event.npu, event.role, event.reason):
            return
        if event.reason is not None and event.grace is not None:
            for lease in self.leases_on(event.npu):
                recalled = Recalled(lease.id, f"npu{event.npu}: {event.reason}", event.grace)
                yield from self._happens(lease, recalled, now)
        yield from self._settle(now)

    def check(self) -> None:
        """Raises: AssertionError when an invariant is broken."""
        self._held.check()
        self._estate.check(self._held.by_id)
        cores: Counter[str] = Counter()
        for lease in self.leases:
            cores[lease.tenant] += lease.cores
        for tenant, count in cores.items():
            assert self._shares.cores(tenant) == count, f"{tenant} has {count} cores"
        assert set(self._preemptors) <= {waiter.requested.request for waiter in self._line}
        assert not (self._draining and len(self._line)), "waiters outlive the drain"
