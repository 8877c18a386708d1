"""The cores of everybody, and those that are set aside for a few: a lease table each.

A pool is what one pod may lease. Its cores are somebody else's to the table of everybody, and it has no
others: so what waits in one never takes from, or waits for, what is in another. A session asks in one pool,
which `Claim.pool` names.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from furiosa.broker.lease.cards import Card
from furiosa.broker.lease.queue import QueuePlace
from furiosa.broker.lease.states import (
    CardsChanged,
    Closed,
    Draining,
    Effect,
    Ended,
    Event,
    ForeignHeld,
    Granted,
    Handed,
    Lease,
    PoolsEvent,
    Quiesced,
    Recalled,
    Released,
    Renewed,
    Requested,
    SetAside,
)
from furiosa.broker.lease.table import DEFAULT, LeaseTable, Rules

if TYPE_CHECKING:
    from furiosa.common.names import DeviceFile

EVERYBODY: Final = ""  # the name of the pool of what is not set aside


class Pools:
    """One `LeaseTable` to its caller, and the same methods. A pool that is gone keeps its table until the
    last lease in it has ended.
    """

    def __init__(
        self, cards: Iterable[Card], new_id: Callable[[], str], rules: Rules = DEFAULT
    ) -> None:
        self._cards = tuple(cards)
        self._new_id = new_id
        self._rules = rules
        self._everybody = LeaseTable(self._cards, new_id, rules)
        self._tables: dict[str, LeaseTable] = {EVERYBODY: self._everybody}
        self._files: dict[str, frozenset[DeviceFile]] = {}  # of the pools
        self._home: dict[str, str] = {}  # of leases in pools: which
        self._aside: frozenset[DeviceFile] = frozenset()
        self._foreign: frozenset[DeviceFile] = frozenset()
        self._closed: dict[tuple[int, str], Closed] = {}
        self._draining = False

    @property
    def leases(self) -> tuple[Lease, ...]:
        """Oldest first."""
        if len(self._tables) == 1:
            return self._everybody.leases
        found = [lease for table in self._tables.values() for lease in table.leases]
        return tuple(sorted(found, key=lambda lease: lease.granted_at))

    @property
    def waiting(self) -> int:
        return sum(table.waiting for table in self._tables.values())

    def has_card(self, npu: int) -> bool:
        return self._everybody.has_card(npu)

    def get(self, lease: str) -> Lease | None:
        return self._table_of(lease).get(lease)

    def pool_of(self, lease: str) -> str:
        """The pool that the lease is of."""
        return self._home.get(lease, EVERYBODY)

    def leases_on(self, npu: int) -> tuple[Lease, ...]:
        return tuple(lease for table in self._tables.values() for lease in table.leases_on(npu))

    def closed(self, npu: int) -> dict[str, str]:
        return self._everybody.closed(npu)

    def next_deadline(self) -> float:
        return min(table.next_deadline() for table in self._tables.values())

    def queue(self, now: float) -> Iterator[QueuePlace]:
        """Those who wait, pool by pool."""
        for table in self._tables.values():
            yield from table.queue(now)

    def adopt(self, lease: Lease, weight: float, now: float) -> bool:
        """It was in the pool that has all of its files now."""
        for pool, files in self._files.items():
            if files.issuperset(lease.files):
                self._home[lease.id] = pool
                if self._tables[pool].adopt(lease, weight, now):
                    return True
                del self._home[lease.id]
                return False
        if any(file.overlaps(other) for file in lease.files for other in self._aside):
            return False
        return self._everybody.adopt(lease, weight, now)

    def handle(self, event: PoolsEvent, *, now: float) -> tuple[Effect, ...]:
        match event:
            case Requested():
                pool = event.claim.pool
                return self._told(pool, self._tables[pool].handle(event, now=now))
            case (
                Released(lease) | Renewed(lease) | Handed(lease) | Recalled(lease) | Quiesced(lease)
            ):
                pool = self.pool_of(lease)
                return self._told(pool, self._tables[pool].handle(event, now=now))
            case CardsChanged(cards, grace):
                self._cards = cards
                return self._all(lambda pool: CardsChanged(self._cards_of(pool), grace), now)
            case ForeignHeld(files):
                self._foreign = files
                return self._all(self._foreign_to, now)
            case SetAside():
                return self._set_aside(event, now)
            case Closed(npu, role):
                self._closed[npu, role] = event
                return self._all(lambda _: event, now)
            case Draining():
                self._draining = True
                return self._all(lambda _: event, now)
            case _:
                return self._all(lambda _: event, now)

    def check(self) -> None:
        """Raises: AssertionError when an invariant is broken."""
        owners: dict[DeviceFile, str] = {}
        for pool, table in self._tables.items():
            table.check()
            for lease in table.leases:
                assert self.pool_of(lease.id) == pool, f"{lease.id} is of pool {pool!r}"
                for file in lease.files:
                    for other, held in owners.items():
                        assert not file.overlaps(other), f"{lease.id} and {held}: {file}"
                for file in lease.files:
                    owners[file] = lease.id

    def _set_aside(self, event: SetAside, now: float) -> tuple[Effect, ...]:
        self._aside = event.files
        before, self._files = (
            self._files,
            {pool: frozenset(files) for pool, files in event.pools.items()},
        )
        # cores leave pools before others get them
        effects = self._everybody.handle(self._foreign_to(EVERYBODY), now=now)
        for pool in sorted(before.keys() | self._files.keys(), key=lambda p: p in self._files):
            if before.get(pool) == self._files.get(pool):
                continue
            if pool not in self._tables:
                self._tables[pool] = self._new_table(pool, now)
                continue
            changed = CardsChanged(self._cards_of(pool), 0.0)
            effects += self._told(pool, self._tables[pool].handle(changed, now=now))
            self._drop_if_over(pool)
        return effects

    def _new_table(self, pool: str, now: float) -> LeaseTable:
        table = LeaseTable(self._cards_of(pool), self._new_id, self._rules)
        for closed in self._closed.values():
            table.handle(closed, now=now)
        table.handle(self._foreign_to(pool), now=now)
        if self._draining:
            table.handle(Draining(), now=now)
        return table

    def _cards_of(self, pool: str) -> tuple[Card, ...]:
        """The cards with those of their files that are in the pool, or within one that is."""
        if pool == EVERYBODY:
            return self._cards
        mine = self._files.get(pool, frozenset())
        parts: list[Card] = []
        for card in self._cards:
            cores = 0
            for file in mine:
                cores |= card.bits(file) if file.npu == card.npu else 0
            files = tuple(file for file in card.files if not card.bits(file) & ~cores)
            if files:
                parts.append(Card(card.npu, card.cores, files))
        return tuple(parts)

    def _foreign_to(self, pool: str) -> ForeignHeld:
        return ForeignHeld(self._foreign | self._aside if pool == EVERYBODY else self._foreign)

    def _all(self, event: Callable[[str], Event], now: float) -> tuple[Effect, ...]:
        effects: tuple[Effect, ...] = ()
        for pool, table in tuple(self._tables.items()):
            effects += self._told(pool, table.handle(event(pool), now=now))
        return effects

    def _told(self, pool: str, effects: tuple[Effect, ...]) -> tuple[Effect, ...]:
        """Where leases are, from what has happened to them."""
        if pool != EVERYBODY:
            for effect in effects:
                match effect:
                    case Granted(_, lease):
                        self._home[lease.id] = pool
                    case Ended(lease):
                        self._home.pop(lease.id, None)
                        self._drop_if_over(pool)
        return effects

    def _drop_if_over(self, pool: str) -> None:
        if pool not in self._files and not self._tables[pool].leases:
            del self._tables[pool]

    def _table_of(self, lease: str) -> LeaseTable:
        return self._tables[self.pool_of(lease)]
