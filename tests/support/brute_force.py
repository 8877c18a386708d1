"""The lease table's decisions, recomputed from scratch in the plainest way: sets of cores, full scans.

It shares the accounts of tenants with the table (they have tests of their own) and nothing else.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from furiosa.broker.lease import Card, Policy
from furiosa.broker.lease.fairness import Shares
from furiosa.broker.lease.states import Lease, Requested
from furiosa.broker.lease.waiting import PATIENCE
from furiosa.common.names import DeviceFile
from furiosa.common.selector import Counted, Named

Core = tuple[int, int]


@dataclass(frozen=True)
class Waiting:
    requested: Requested
    since: float
    number: int


@dataclass
class BruteForce:
    cards: dict[int, Card]
    policy: Policy
    aging: float
    held: dict[str, Lease] = field(default_factory=dict)  # from the grant until the workers stopped
    foreign: frozenset[DeviceFile] = frozenset()
    closed: dict[int, set[str]] = field(default_factory=dict)
    line: list[Waiting] = field(default_factory=list)
    shares: Shares = field(default_factory=Shares)

    def cores(self, file: DeviceFile) -> set[Core]:
        card = self.cards.get(file.npu)
        count = 0 if card is None else card.cores
        return {(file.npu, core) for core in range(count) if core in file.cores}

    def free(self) -> set[Core]:
        every = {
            (npu, core)
            for npu, card in self.cards.items()
            if not self.closed.get(npu)
            for core in range(card.cores)
        }
        files = [f for lease in self.held.values() for f in lease.files]
        return every - {core for f in (*files, *self.foreign) for core in self.cores(f)}

    def place(
        self, requested: Requested, free: set[Core], policy: Policy
    ) -> list[DeviceFile] | None:
        free = set(free)
        files: list[DeviceFile] = []
        items = requested.spec.items
        for item in (i for i in items if isinstance(i, Named)):
            card = self.cards.get(item.file.npu)
            wanted = self.cores(item.file)
            if card is None or item.file not in card.files or not self.allows(requested, card.npu):
                return None
            if not wanted <= free:
                return None
            free -= wanted
            files.append(item.file)
        for counted in (i for i in items if isinstance(i, Counted)):
            picked: list[DeviceFile] = []
            for _ in range(counted.count):
                every = self.candidates(requested, counted)
                candidates = [f for f in every if self.cores(f) <= free]
                if not candidates:
                    return None

                def order(f: DeviceFile, left: set[Core] = free) -> tuple[int, tuple[int, ...]]:
                    emptiness = sum(npu == f.npu for npu, _ in left)
                    return (emptiness if policy is Policy.PACK else -emptiness), f.sort_key

                best = min(candidates, key=order)
                free = free - self.cores(best)
                picked.append(best)
            files += sorted(picked, key=lambda f: f.sort_key)
        return files

    def allows(self, requested: Requested, npu: int) -> bool:
        return requested.claim.cards is None or npu in requested.claim.cards

    def candidates(self, requested: Requested, item: Counted) -> Iterable[DeviceFile]:
        for npu, card in self.cards.items():
            if self.allows(requested, npu):
                parts = (f for f in card.files if not f.cores.is_all)
                yield from (f for f in parts if (f.cores.width == 1) == (item.cores == 1))

    def hold(self, requested: Requested, free: set[Core], reserved: set[Core]) -> None:
        for item in (i for i in requested.spec.items if isinstance(i, Named)):
            if not self.closed.get(item.file.npu):
                reserved |= self.cores(item.file)
        for counted in (i for i in requested.spec.items if isinstance(i, Counted)):
            for _ in range(counted.count):
                parts = [
                    f
                    for f in self.candidates(requested, counted)
                    if not self.cores(f) & reserved and self.cores(f) & free
                ]
                if not parts:
                    break

                def emptiness(
                    f: DeviceFile, left: frozenset[Core] = frozenset(free - reserved)
                ) -> tuple[int, int, tuple[int, ...]]:
                    level = sum(npu == f.npu for npu, _ in left)
                    return -level, -len(self.cores(f) & free), f.sort_key

                reserved |= self.cores(min(parts, key=emptiness))

    def wanted_cores(self, requested: Requested) -> int | None:
        """How many it will have; None when no waiting would help."""
        every = {(n, core) for n, card in self.cards.items() for core in range(card.cores)}
        files = self.place(requested, every, Policy.PACK)
        return None if files is None else sum(len(self.cores(f)) for f in files)

    def expected(self, now: float) -> list[tuple[int, list[DeviceFile]]]:
        """The grants that must come now, in order; nothing is changed but a copy."""
        free, reserved = self.free(), set[Core]()
        granted: list[tuple[int, list[DeviceFile]]] = []
        extra: dict[str, int] = {}
        line, left = tuple(self.line), list(self.line)
        while left:

            def turn(waiting: Waiting) -> tuple[int, tuple[float, float], int]:
                requested = waiting.requested
                steps = int((now - waiting.since) / self.aging)
                highest = max(each.requested.priority for each in line)
                rank = min(requested.priority + steps, highest) + steps // PATIENCE
                tenant, weight = requested.claim.tenant, requested.claim.weight
                cores, usage = self.shares.rank(tenant, now)
                return -rank, (cores + extra.get(tenant, 0) / weight, usage), waiting.number

            waiting = min(left, key=turn)
            left.remove(waiting)
            requested = waiting.requested
            tenant, most = requested.claim.tenant, requested.claim.max_cores
            wanted = self.wanted_cores(requested)
            assert wanted is not None, requested
            mine = self.shares.cores(tenant) + extra.get(tenant, 0)
            if most is not None and mine + wanted > most:
                continue
            files = self.place(requested, free - reserved, self.policy)
            if files is None:
                self.hold(requested, free, reserved)
                continue
            granted.append((requested.request, files))
            for f in files:
                free -= self.cores(f)
            extra[tenant] = extra.get(tenant, 0) + wanted
        return granted
