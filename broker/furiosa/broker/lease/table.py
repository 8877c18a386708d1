"""Decides: an event and the time go in, effects come out. The arbiter is its only caller."""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

from furiosa.broker.lease.states import (
    TRANSITIONS,
    Busy,
    Cancelled,
    Draining,
    Effect,
    Elapsed,
    Ended,
    Event,
    Granted,
    HolderGone,
    Lease,
    NoLongerWanted,
    Quiesced,
    Refused,
    Released,
    Requested,
    ShuttingDown,
    StopWorkers,
    Unknown,
)
from furiosa.broker.lease.waiting import WaitingLine, wanted_by
from furiosa.common.errors import UnknownDevice
from furiosa.common.names import DeviceFile
from furiosa.common.selector import find
from furiosa.common.views import LeaseState


class LeaseTable:
    """Exclusive leases on `files`. Deterministic: ids come from `new_id`, time from the caller."""

    def __init__(self, files: Iterable[DeviceFile], new_id: Callable[[], str]) -> None:
        self._files = tuple(files)
        self._new_id = new_id
        self._leases: dict[str, Lease] = {}  # those that have not ended, oldest first
        self._line = WaitingLine()
        self._draining = False

    @property
    def leases(self) -> tuple[Lease, ...]:
        return tuple(self._leases.values())

    def get(self, lease: str) -> Lease | None:
        return self._leases.get(lease)

    @property
    def waiting(self) -> int:
        return len(self._line)

    def next_deadline(self) -> float:
        """When `Elapsed` has work to do; inf: never."""
        return self._line.next_deadline()

    def handle(self, event: Event, *, now: float) -> tuple[Effect, ...]:
        """Effects in the order they must happen. An event about something unknown has none."""
        match event:
            case Requested():
                return self._requested(event, now)
            case Cancelled(request):
                self._line.remove(request)
                return tuple(self._serve())
            case Elapsed():
                return (*self._expire(now), *self._serve())
            case Released(lease, cause):
                return self._revoke(self._leases.get(lease), event, cause)
            case HolderGone(holder, cause):
                return self._holder_gone(event, holder, cause)
            case Quiesced(lease):
                return self._quiesced(lease, event)
            case Draining():
                self._draining = True
                return tuple(self._refuse_all())

    def _requested(self, event: Requested, now: float) -> tuple[Effect, ...]:
        if self._draining:
            return (Refused(event.request, event.spec, ShuttingDown()),)
        reserved = [f for w in self._line for f in wanted_by(w.requested, self._files)]
        try:
            files = find(event.spec, self._files, [*self._busy(), *reserved])
        except UnknownDevice:
            return (Refused(event.request, event.spec, Unknown()),)
        if files is not None:
            return (self._grant(event, files),)
        if event.deadline is None or event.deadline <= now:
            return (Refused(event.request, event.spec, self._in_the_way(event)),)
        self._line.append(event)
        return ()

    def _serve(self) -> Iterable[Effect]:
        """Grant to waiters, in order; one that must go on waiting keeps its files from later ones."""
        reserved: list[DeviceFile] = []
        for waiter in self._line:
            requested = waiter.requested
            files = find(requested.spec, self._files, [*self._busy(), *reserved])
            if files is None:
                reserved += wanted_by(requested, self._files)
            else:
                self._line.remove(requested.request)
                yield self._grant(requested, files)

    def _expire(self, now: float) -> Iterable[Effect]:
        for waiter in self._line:
            if waiter.deadline <= now:
                requested = waiter.requested
                self._line.remove(requested.request)
                yield Refused(requested.request, requested.spec, self._in_the_way(requested))

    def _refuse_all(self) -> Iterable[Effect]:
        for waiter in self._line:
            self._line.remove(waiter.requested.request)
            yield Refused(waiter.requested.request, waiter.requested.spec, ShuttingDown())

    def _holder_gone(self, event: Event, holder: int, cause: str) -> tuple[Effect, ...]:
        effects: list[Effect] = []
        for waiter in self._line:
            if waiter.requested.holder == holder:
                requested = waiter.requested
                self._line.remove(requested.request)
                effects.append(Refused(requested.request, requested.spec, NoLongerWanted()))
        for lease in self.leases:
            if lease.holder == holder:
                effects += self._revoke(lease, event, cause)
        return (*effects, *self._serve())

    def _revoke(self, lease: Lease | None, event: Event, cause: str) -> tuple[Effect, ...]:
        if lease is None or type(event) not in TRANSITIONS[lease.state]:
            return ()
        return (StopWorkers(self._move(lease, event), cause),)

    def _quiesced(self, lease_id: str, event: Event) -> tuple[Effect, ...]:
        lease = self._leases.get(lease_id)
        if lease is None or type(event) not in TRANSITIONS[lease.state]:
            return ()
        ended = self._move(lease, event)
        del self._leases[lease_id]
        return (Ended(ended), *self._serve())

    def _move(self, lease: Lease, event: Event) -> Lease:
        moved = replace(lease, state=TRANSITIONS[lease.state][type(event)])
        self._leases[lease.id] = moved
        return moved

    def _grant(self, requested: Requested, files: Iterable[DeviceFile]) -> Granted:
        lease = Lease(self._new_id(), requested.holder, tuple(files), LeaseState.GRANTED)
        self._leases[lease.id] = lease
        return Granted(requested.request, lease)

    def _busy(self) -> list[DeviceFile]:
        return [f for lease in self._leases.values() for f in lease.files]

    def _in_the_way(self, requested: Requested) -> Busy:
        wanted = wanted_by(requested, self._files)
        for lease in self._leases.values():
            for file in lease.files:
                if any(file.overlaps(w) for w in wanted):
                    return Busy(lease.id, file)
        return Busy(None, None)

    def check(self) -> None:
        """Raises: AssertionError when an invariant is broken."""
        held = [(lease.id, f) for lease in self._leases.values() for f in lease.files]
        for i, (left_id, left) in enumerate(held):
            assert left in self._files, f"{left_id} holds {left}, which does not exist"
            for right_id, right in held[i + 1 :]:
                assert not left.overlaps(right), f"{left_id} {left} overlaps {right_id} {right}"
        assert all(lease.state is not LeaseState.ENDED for lease in self._leases.values())
        assert not (self._draining and len(self._line)), "waiters outlive the drain"
        assert all(not math.isnan(w.deadline) for w in self._line)
