"""The leases that have not ended: by id, by holder, and by when their state ends by itself."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping

from furiosa.broker.lease.deadlines import Deadlines
from furiosa.broker.lease.states import NOBODY, Lease
from furiosa.common.views import LeaseState


class Held:
    """An index; what a lease may become is not decided here."""

    def __init__(self) -> None:
        self._by_id: dict[str, Lease] = {}
        self._by_holder: dict[int, set[str]] = {}
        self._deadlines: Deadlines[str] = Deadlines()
        self._priorities: Counter[int] = Counter()

    @property
    def by_id(self) -> Mapping[str, Lease]:
        """Oldest first."""
        return self._by_id

    @property
    def least_priority(self) -> float:
        """Of all of them; inf: there is none."""
        return min(self._priorities, default=math.inf)

    def get(self, lease: str) -> Lease | None:
        return self._by_id.get(lease)

    def of(self, holder: int) -> list[str]:
        """A copy, in the order of ids."""
        return sorted(self._by_holder.get(holder, ()))

    def add(self, lease: Lease) -> None:
        self._priorities[lease.priority] += 1
        self.put(lease)

    def put(self, lease: Lease) -> None:
        """It has changed, except in its id and priority."""
        before = self._by_id.get(lease.id)
        if before is not None and before.holder != lease.holder:
            self._unlink(before)
        self._by_id[lease.id] = lease
        if lease.holder != NOBODY:
            self._by_holder.setdefault(lease.holder, set()).add(lease.id)
        self._deadlines.set(lease.id, lease.ends_at)

    def remove(self, lease: Lease) -> None:
        del self._by_id[lease.id]
        self._unlink(lease)
        self._deadlines.drop(lease.id)
        self._priorities[lease.priority] -= 1
        if not self._priorities[lease.priority]:
            del self._priorities[lease.priority]

    def next_deadline(self) -> float:
        """inf: never."""
        return self._deadlines.next()

    def due(self, now: float) -> Iterator[Lease]:
        """Whose state is over; a copy."""
        return iter([self._by_id[lease] for lease in self._deadlines.due(now)])

    def _unlink(self, lease: Lease) -> None:
        held = self._by_holder.get(lease.holder)
        if held is not None:
            held.discard(lease.id)
            if not held:
                del self._by_holder[lease.holder]

    def check(self) -> None:
        """Raises: AssertionError when an invariant is broken."""
        for lease in self._by_id.values():
            assert lease.state is not LeaseState.ENDED, f"{lease.id} has ended and is still here"
            assert (lease.holder in self._by_holder) == (lease.holder != NOBODY), lease
        linked = {id for ids in self._by_holder.values() for id in ids}
        assert linked == {x.id for x in self._by_id.values() if x.holder != NOBODY}
        assert self._priorities == Counter(lease.priority for lease in self._by_id.values())
