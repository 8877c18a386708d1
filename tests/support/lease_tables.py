"""A lease table with levers: ask, release, let time pass; every step is checked."""

import itertools
import math

from furiosa.broker.lease import Card, Claim, Effect, Lease, Pools, PoolsEvent, Rules, Terms
from furiosa.broker.lease.states import (
    Changed,
    Granted,
    Queued,
    Quiesced,
    Refused,
    Released,
    Requested,
    StopWorkers,
)
from furiosa.common.names import DeviceFile
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import LeaseState

ANYBODY = Claim("t")


def card(npu: int, cores: int = 2) -> Card:
    """The whole card, each core, and all aligned fused files of 2, 4, ... cores."""
    names = [f"npu{npu}", *(f"npu{npu}pe{core}" for core in range(cores))]
    width = 2
    while width <= cores:
        names += [f"npu{npu}pe{n}-{n + width - 1}" for n in range(0, cores - width + 1, width)]
        width *= 2
    return Card(npu, cores, tuple(map(DeviceFile.parse, names)))


def names(lease: Lease) -> list[str]:
    return [str(file) for file in lease.files]


class Driver:
    """Requests and holders are numbered by the caller or in order; `now` is the clock."""

    def __init__(self, *cards: Card, rules: Rules | None = None) -> None:
        ids = itertools.count(1)
        self.table = Pools(
            cards or (card(0), card(1)), lambda: f"l{next(ids)}", rules or Rules(recall_grace=10.0)
        )
        self.numbers = itertools.count(1)
        self.now = 0.0

    def handle(self, event: PoolsEvent) -> tuple[Effect, ...]:
        effects = self.table.handle(event, now=self.now)
        self.table.check()
        return effects

    def ask(
        self,
        spec: str,
        wait: float | None = None,
        claim: Claim = ANYBODY,
        *,
        holder: int = 1,
        priority: int = 0,
        terms: Terms | None = None,
    ) -> tuple[int, tuple[Effect, ...]]:
        """`wait` in seconds from now; None: not at all. Its number, and what came of it."""
        request = next(self.numbers)
        deadline = None if wait is None else self.now + wait
        parsed = DeviceSpec.parse(spec)
        return request, self.handle(
            Requested(request, holder, parsed, deadline, claim, priority, terms or Terms())
        )

    def grant(
        self,
        spec: str,
        claim: Claim = ANYBODY,
        *,
        holder: int = 1,
        priority: int = 0,
        terms: Terms | None = None,
    ) -> Lease:
        _, effects = self.ask(spec, None, claim, holder=holder, priority=priority, terms=terms)
        (effect,) = effects
        assert isinstance(effect, Granted), effect
        return effect.lease

    def wait(self, spec: str, claim: Claim = ANYBODY, *, holder: int = 2, priority: int = 0) -> int:
        """Join the queue for as long as it takes; nothing else may happen."""
        request, effects = self.ask(spec, math.inf, claim, holder=holder, priority=priority)
        assert effects == (Queued(request),)
        return request

    def refusal(self, spec: str, claim: Claim = ANYBODY, wait: float | None = None) -> object:
        request, effects = self.ask(spec, wait, claim)
        (effect,) = effects
        assert isinstance(effect, Refused)
        assert (effect.request, str(effect.spec)) == (request, str(DeviceSpec.parse(spec)))
        return effect.refusal

    def end(self, lease: Lease | str) -> list[int]:
        """Release it, and its workers stop. The requests that are granted by that."""
        id = lease if isinstance(lease, str) else lease.id
        self.handle(Released(id, "done"))
        return served(self.handle(Quiesced(id)))

    def state(self, lease: Lease) -> LeaseState:
        found = self.table.get(lease.id)
        return LeaseState.ENDED if found is None else found.state

    def waiting(self) -> list[int]:
        """Requests in their turn."""
        return [place.waiter.requested.request for place in self.table.queue(self.now)]


def served(effects: tuple[Effect, ...]) -> list[int]:
    return [effect.request for effect in effects if isinstance(effect, Granted)]


def leases(effects: tuple[Effect, ...]) -> dict[int, Lease]:
    return {effect.request: effect.lease for effect in effects if isinstance(effect, Granted)}


def changed(effects: tuple[Effect, ...]) -> Lease:
    """The lease after the one change that is all that happened."""
    (effect,) = effects
    assert isinstance(effect, Changed)
    assert effect.before != effect.lease
    return effect.lease


def stopped(effects: tuple[Effect, ...]) -> list[str]:
    """The leases whose workers must stop, which is all that happened."""
    assert all(isinstance(effect, StopWorkers) for effect in effects)
    return [effect.lease.id for effect in effects if isinstance(effect, StopWorkers)]
