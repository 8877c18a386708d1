"""The queue of requests that wait, and whose turn it is.

Order: rank, then the tenant's share, then first come. Rank is a request's priority, one higher for
every `aging` seconds that it has waited, up to the highest priority in the line: so nobody waits for ever
behind the important, and among equals it is the share that counts and not the time. Beyond that it still
rises, `PATIENCE` times slower: so nobody waits for ever behind those who have less. Within a tenant and a
priority it is first come, first served.
"""

import heapq
import itertools
from collections.abc import Callable, Iterator
from typing import Final

from msgspec import Struct

from furiosa.broker.lease.fairness import Shares
from furiosa.broker.lease.placement import Ordered
from furiosa.broker.lease.states import Claim, Requested

PATIENCE: Final = 20

Kind = tuple[Ordered, int]  # those of a kind can be served by the same files
Group = tuple[Claim, int, Kind]  # also of one tenant, and of equal priority
_Turn = tuple[int, tuple[float, float], float, int]


class Waiter(Struct, frozen=True):
    requested: Requested
    spec: Ordered
    allowed: int  # places of the cards that it can be served from
    cores: int  # that it will have
    since: float
    number: int

    def rank(self, now: float, aging: float, highest: int) -> int:
        steps = int((now - self.since) / aging)
        return min(self.requested.priority + steps, highest) + steps // PATIENCE

    @property
    def kind(self) -> Kind:
        return self.spec, self.allowed

    @property
    def group(self) -> Group:
        return self.requested.claim, self.requested.priority, self.kind


class WaitingLine:
    """`aging` in seconds."""

    def __init__(self, aging: float) -> None:
        self.aging = aging
        self._numbers = itertools.count()
        self._waiters: dict[int, Waiter] = {}  # by request
        self._groups: dict[Group, dict[int, Waiter]] = {}  # by request, in the order they came

    def __len__(self) -> int:
        return len(self._waiters)

    def __iter__(self) -> Iterator[Waiter]:
        """In the order they came; a copy."""
        return iter(tuple(self._waiters.values()))

    def get(self, request: int) -> Waiter | None:
        return self._waiters.get(request)

    def append(
        self, requested: Requested, spec: Ordered, allowed: int, cores: int, since: float
    ) -> Waiter:
        waiter = Waiter(requested, spec, allowed, cores, since, next(self._numbers))
        self._waiters[requested.request] = waiter
        self._join_group(waiter)
        return waiter

    def replace(self, waiter: Waiter) -> None:
        """A changed copy in the same place."""
        before = self._waiters[waiter.requested.request]
        self._waiters[waiter.requested.request] = waiter
        if before.group == waiter.group:
            self._groups[waiter.group][waiter.requested.request] = waiter
        else:
            self._leave_group(before)
            self._join_group(waiter)

    def remove(self, request: int) -> Waiter | None:
        """None: it does not wait."""
        waiter = self._waiters.pop(request, None)
        if waiter is not None:
            self._leave_group(waiter)
        return waiter

    def _join_group(self, waiter: Waiter) -> None:
        group = self._groups.setdefault(waiter.group, {})
        last = next(reversed(group.values()), None)
        group[waiter.requested.request] = waiter
        if last is not None and last.since > waiter.since:  # it waited in a broker before
            self._groups[waiter.group] = dict(sorted(group.items(), key=lambda x: x[1].since))

    def _leave_group(self, waiter: Waiter) -> None:
        group = self._groups[waiter.group]
        del group[waiter.requested.request]
        if not group:
            del self._groups[waiter.group]

    def in_turn(
        self, shares: Shares, now: float, still: Callable[[Waiter], bool] = lambda _: True
    ) -> Iterator[Waiter]:
        """In the order in which they are served. The one that was yielded last may be removed.

        What is granted meanwhile counts at once for its tenant's next. A waiter about whom `still` says
        no is left out, and with him those behind him in his group.
        """
        heap: list[tuple[_Turn, Waiter, Iterator[Waiter]]] = []

        highest = max((priority for _, priority, _ in self._groups), default=0)

        def turn(waiter: Waiter) -> _Turn:
            share = shares.rank(waiter.requested.claim.tenant, now)
            return -waiter.rank(now, self.aging, highest), share, waiter.since, waiter.number

        def push(waiter: Waiter, behind: Iterator[Waiter]) -> None:
            heapq.heappush(heap, (turn(waiter), waiter, behind))

        for members in self._groups.values():
            if still(next(iter(members.values()))):
                behind = iter(tuple(members.values()))
                push(next(behind), behind)
        while heap:
            place, waiter, behind = heapq.heappop(heap)
            if not still(waiter):
                continue
            if turn(waiter) != place:
                # another group of its tenant was served since it was pushed
                push(waiter, behind)
                continue
            yield waiter
            following = next(behind, None)
            if following is not None and still(following):
                push(following, behind)
