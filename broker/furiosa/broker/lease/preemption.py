"""Which leases are recalled for a request that may preempt: as few, and as unimportant, as will do.

Only leases of lower priority than the request's own count. Cores that are free, or whose lease is
already on its way out, cost nothing; one that is expiring may still be renewed. Nothing more is recalled
for a request until what it awaits has ended.
"""

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from furiosa.broker.lease.cards import Cards, Slot
from furiosa.broker.lease.states import Lease
from furiosa.broker.lease.waiting import Kind, Waiter
from furiosa.common.views import LeaseState

_STAYING = frozenset({LeaseState.GRANTED, LeaseState.DETACHED, LeaseState.EXPIRING})
_Cost = tuple[int, int, int, float]  # highest priority; leases; cores; minus when the latest came
_FREE: _Cost = (-(2**31), 0, 0, 0.0)
_Offer = tuple[_Cost, int, int]  # place, cores
_Look = tuple[
    int, list[tuple[int, Lease]]
]  # cores that cannot be had; who has to go for the others


@dataclass(slots=True)
class _Plan:
    cores: dict[int, int] = field(default_factory=dict)  # by place
    awaited: set[str] = field(default_factory=set)  # leases that must end
    victims: dict[str, Lease] = field(default_factory=dict)  # those of them that must be recalled


class Preemptors:
    """Requests that wait and may preempt, each with what was planned for it last."""

    def __init__(self) -> None:
        self._plans: dict[int, _Plan] = {}
        self._priorities: dict[int, int] = {}
        self._counts: Counter[int] = Counter()  # of each priority

    def __len__(self) -> int:
        return len(self._plans)

    def __iter__(self) -> Iterator[int]:
        return iter(self._plans)

    @property
    def highest(self) -> float:
        """The highest priority of any; -inf when there is none."""
        return max(self._counts, default=-math.inf)

    def add(self, request: int, priority: int) -> None:
        self._plans[request] = _Plan()
        self._priorities[request] = priority
        self._counts[priority] += 1

    def discard(self, request: int) -> None:
        if self._plans.pop(request, None) is not None:
            priority = self._priorities.pop(request)
            self._counts[priority] -= 1
            if not self._counts[priority]:
                del self._counts[priority]

    def plan_anew(self) -> None:
        """The places of the cards have changed."""
        self._plans = {request: _Plan() for request in self._plans}

    def victims(
        self, cards: Cards, leases: Mapping[str, Lease], in_turn: Iterable[Waiter]
    ) -> Iterator[tuple[Lease, Waiter]]:
        """Whom to recall for whom; the caller does so before it asks for the next."""
        promised: dict[int, int] = {}
        hopeless: dict[Kind, int] = {}  # the highest priority for which nothing could be done
        lowest = min((x.priority for x in leases.values() if x.state in _STAYING), default=math.inf)
        for waiter in in_turn:
            request, priority = waiter.requested.request, waiter.requested.priority
            plan = self._plans[request]
            if not any(lease in leases for lease in plan.awaited):
                if priority <= max(lowest, hopeless.get(waiter.kind, lowest)):
                    continue
                planner = _Planner(cards, leases, priority, promised)
                if not planner.serves(waiter):
                    hopeless[waiter.kind] = priority
                    continue
                plan = self._plans[request] = planner.plan
                for lease in plan.victims.values():
                    yield lease, waiter
            for place, cores in plan.cores.items():
                promised[place] = promised.get(place, 0) | cores


@dataclass(slots=True)
class _Planner:
    """`promised` cores, by place, are not to be had."""

    cards: Cards
    leases: Mapping[str, Lease]
    priority: int
    promised: Mapping[int, int]
    plan: _Plan = field(default_factory=_Plan)

    def serves(self, waiter: Waiter) -> bool:
        """Whether the request can be served when all that is awaited has ended."""
        for file in waiter.spec.named:
            slot = self.cards.by_npu[file.npu]
            if _cost(self._look(slot), slot.named[file]) is None:
                return False
            self._take(slot, slot.named[file])
        return all(
            self._take_cheapest(item.count, item.cores == 1, waiter.allowed)
            for item in waiter.spec.counted
        )

    def _take_cheapest(self, count: int, single: bool, allowed: int) -> bool:
        offers = [offer for slot in self.cards.at(allowed) for offer in self._offers(slot, single)]
        heapq.heapify(offers)
        while count and offers:
            cost, place, bits = heapq.heappop(offers)
            slot = self.cards.slots[place]
            if _cost(self._look(slot), bits) == cost:
                count -= 1
                for victim in self._take(slot, bits):  # its other files cost nothing any more
                    for file in victim.files:
                        other = self.cards.by_npu.get(file.npu)
                        if other is not None and allowed >> other.place & 1:
                            for offer in self._offers(other, single):
                                heapq.heappush(offers, offer)
        return count == 0

    def _offers(self, slot: Slot, single: bool) -> Iterator[_Offer]:
        look = self._look(slot)
        for _, bits in slot.parts(single):
            cost = _cost(look, bits)
            if cost is not None:
                yield cost, slot.place, bits

    def _look(self, slot: Slot) -> _Look:
        if slot.closed:
            return slot.card.all_cores, []
        place = slot.place
        beyond = slot.foreign | self.plan.cores.get(place, 0) | self.promised.get(place, 0)
        staying: list[tuple[int, Lease]] = []
        for file, id in slot.owners.items():
            lease = self.leases[id]
            if lease.state in _STAYING and id not in self.plan.victims:
                if lease.priority >= self.priority:
                    beyond |= slot.card.bits(file)
                else:
                    staying.append((slot.card.bits(file), lease))
        return beyond, staying

    def _take(self, slot: Slot, bits: int) -> list[Lease]:
        """Those who become victims by it."""
        _, staying = self._look(slot)
        victims = [lease for held, lease in staying if held & bits]
        self.plan.victims.update((lease.id, lease) for lease in victims)
        self.plan.cores[slot.place] = self.plan.cores.get(slot.place, 0) | bits
        for file, id in slot.owners.items():
            if slot.card.bits(file) & bits:
                self.plan.awaited.add(id)
        return victims


def _cost(look: _Look, bits: int) -> _Cost | None:
    """None: the cores cannot be had."""
    beyond, staying = look
    if bits & beyond:
        return None
    victims = [lease for held, lease in staying if held & bits]
    if not victims:
        return _FREE
    latest = max(lease.granted_at for lease in victims)
    cores = sum(lease.cores for lease in victims)
    return max(lease.priority for lease in victims), len(victims), cores, -latest
