"""Accounts of tenants, and what comes of them: shares of core-seconds after many grants."""

import heapq
import itertools
import math

import pytest

from furiosa.broker.lease import Claim, Effect, Lease
from furiosa.broker.lease.fairness import HALF_LIFE, MAX_LEFT, Shares
from furiosa.broker.lease.states import Quiesced, Released
from support.lease_tables import Driver, card, leases


def test_the_tenant_with_fewer_cores_for_its_weight_comes_first() -> None:
    shares = Shares()
    shares.hold("light", 1.0, 1, 0.0)
    shares.hold("heavy", 4.0, 2, 0.0)
    assert shares.rank("heavy", 0.0) < shares.rank("light", 0.0)


def test_among_equals_the_one_that_has_used_less_for_its_weight_comes_first() -> None:
    shares = Shares()
    for tenant, weight in (("a", 1.0), ("b", 2.0)):
        shares.wait(tenant, weight, 1, 0.0)
        shares.hold(tenant, weight, 1, 0.0)
    for tenant in ("a", "b"):
        shares.hold(tenant, None, -1, 60.0)
    assert shares.rank("b", 60.0) < shares.rank("a", 60.0)
    assert shares.rank("a", 60.0)[1] == pytest.approx(60.0, rel=1e-3)
    assert shares.rank("b", 60.0)[1] == pytest.approx(30.0, rel=1e-3)


def test_cores_in_use_count_while_they_are_in_use() -> None:
    shares = Shares()
    shares.hold("a", 1.0, 2, 100.0)
    assert shares.rank("a", 107.0)[1] == pytest.approx(14.0)


def test_absence_earns_no_credit() -> None:
    shares = Shares()
    shares.hold("stayed", 1.0, 1, 0.0)
    shares.hold("left", 1.0, 1, 0.0)
    shares.hold("left", None, -1, 10.0)
    for tenant in ("left", "new"):
        shares.wait(tenant, 1.0, 1, 1000.0)
        assert shares.rank(tenant, 1000.0)[1] == shares.rank("stayed", 1000.0)[1]


def test_leaving_does_not_wipe_out_what_was_used() -> None:
    shares = Shares()
    shares.wait("waits", 1.0, 1, 0.0)
    shares.hold("greedy", 1.0, 1, 0.0)
    shares.hold("greedy", None, -1, 100.0)
    shares.wait("greedy", 1.0, 1, 100.5)
    assert shares.rank("waits", 100.5) < shares.rank("greedy", 100.5)
    assert shares.rank("greedy", 100.5)[1] == pytest.approx(100.0, rel=1e-3)


def test_moving_from_the_queue_to_a_lease_is_no_absence() -> None:
    shares = Shares()
    shares.hold("other", 1.0, 1, 0.0)
    shares.wait("a", 1.0, 1, 0.0)
    shares.wait("a", None, -1, 50.0)
    shares.hold("a", 1.0, 1, 50.0)
    assert shares.rank("a", 50.0) == (1.0, 0.0)


def test_use_without_rivals_is_forgotten_when_nobody_is_left() -> None:
    shares = Shares()
    shares.hold("a", 1.0, 1, 0.0)
    shares.hold("a", None, -1, 5000.0)
    shares.wait("b", 1.0, 1, 6000.0)
    shares.wait("a", 1.0, 1, 6000.0)
    assert shares.rank("a", 6000.0) == shares.rank("b", 6000.0)


def test_old_use_is_forgotten_by_half_in_a_half_life() -> None:
    shares = Shares()
    shares.wait("a", 1.0, 1, 0.0)
    shares.hold("a", None, 1, 0.0)
    shares.hold("a", None, -1, 100.0)
    assert shares.rank("a", 100.0 + HALF_LIFE)[1] == pytest.approx(50.0, rel=1e-2)
    assert shares.rank("a", 100.0 + 3000 * HALF_LIFE)[1] == pytest.approx(0.0)


def test_a_new_weight_counts_from_now_on_and_changes_nothing_about_before() -> None:
    shares = Shares()
    shares.hold("a", 1.0, 2, 0.0)
    shares.wait("a", 4.0, 1, 10.0)
    assert shares.rank("a", 10.0)[0] == 0.5
    assert shares.rank("a", 10.0)[1] == pytest.approx(20.0, rel=1e-3)
    shares.wait("a", None, 1, 10.0)
    assert shares.rank("a", 10.0)[0] == 0.5


def test_counts_are_kept_per_tenant_and_those_unknown_have_none() -> None:
    shares = Shares()
    shares.hold("a", 1.0, 3, 0.0)
    shares.wait("a", 1.0, 2, 0.0)
    assert (shares.cores("a"), shares.waiting("a")) == (3, 2)
    assert (shares.cores("b"), shares.waiting("b")) == (0, 0)
    shares.hold("a", None, -3, 1.0)
    shares.wait("a", None, -2, 1.0)
    assert (shares.cores("a"), shares.waiting("a")) == (0, 0)


def test_a_million_tenants_that_come_and_go_do_not_grow_it() -> None:
    shares = Shares()
    shares.wait("stays", 1.0, 1, 0.0)
    for number in range(5 * MAX_LEFT):
        shares.hold(f"t{number}", 1.0, 1, float(number))
        shares.hold(f"t{number}", None, -1, number + 0.5)
    assert len(shares._accounts) == 1
    assert len(shares._left) == MAX_LEFT


class Crowd:
    """Tenants whose clients ask in a circle: each holds for `hold` seconds, then asks again."""

    def __init__(self, spec: str, cards: int, hold: float = 1.0) -> None:
        self.driver = Driver(*map(card, range(cards)))
        self.spec = spec
        self.hold = hold
        self.used: dict[str, float] = {}  # core-seconds, by tenant
        self.claims: dict[str, Claim] = {}
        self.running: list[tuple[float, int, Lease]] = []
        self.order = itertools.count()

    def join(self, tenant: str, weight: float, clients: int) -> None:
        self.claims[tenant] = Claim(tenant, weight=weight)
        self.used.setdefault(tenant, 0.0)
        for _ in range(clients):
            self.ask(tenant)

    def ask(self, tenant: str) -> None:
        self.note(self.driver.ask(self.spec, math.inf, self.claims[tenant])[1])

    def run(self, grants: int, paused: str = "") -> None:
        """`paused`: that tenant's clients do not come back."""
        for _ in range(grants):
            self.driver.now, _, lease = heapq.heappop(self.running)
            table, now = self.driver.table, self.driver.now
            table.handle(Released(lease.id, "done"), now=now)
            self.note(table.handle(Quiesced(lease.id), now=now))
            self.used[lease.tenant] += self.hold * lease.cores
            if lease.tenant != paused:
                self.ask(lease.tenant)

    def note(self, effects: tuple[Effect, ...]) -> None:
        for lease in leases(effects).values():
            heapq.heappush(self.running, (self.driver.now + self.hold, next(self.order), lease))

    def shares(self) -> dict[str, float]:
        total = sum(self.used.values())
        return {tenant: used / total for tenant, used in self.used.items()}


BY_WEIGHT = {"a": pytest.approx(1 / 7, rel=0.03), "b": pytest.approx(2 / 7, rel=0.03)}


@pytest.mark.parametrize(
    ("spec", "cards", "clients"),
    [("npu:0:0", 1, 5), ("warboy*1", 4, 20)],
    ids=["one core", "8 cores"],
)
@pytest.mark.parametrize("hold", [1.0, 10.0])
def test_shares_of_core_seconds_converge_to_the_weights(
    spec: str, cards: int, clients: int, hold: float
) -> None:
    crowd = Crowd(spec, cards, hold)
    for tenant, weight in (("a", 1.0), ("b", 2.0), ("c", 4.0)):
        crowd.join(tenant, weight, clients)
    crowd.run(2100)
    assert crowd.shares() == {**BY_WEIGHT, "c": pytest.approx(4 / 7, rel=0.03)}


def test_more_clients_do_not_get_a_tenant_more_than_its_share() -> None:
    """The tenant with one client is neither favoured nor punished for leaving the queue each time."""
    crowd = Crowd("npu:0:0", 1)
    crowd.join("one", 1.0, 1)
    crowd.join("many", 4.0, 40)
    crowd.run(1000)
    assert crowd.shares()["one"] == pytest.approx(1 / 5, rel=0.03)


def test_a_tenant_that_comes_back_gets_its_share_and_not_what_it_missed() -> None:
    crowd = Crowd("npu:0:0", 1)
    crowd.join("a", 1.0, 3)
    crowd.join("b", 1.0, 3)
    crowd.run(100)
    crowd.run(500, paused="a")
    crowd.used = dict.fromkeys(crowd.used, 0.0)
    crowd.join("a", 1.0, 3)
    crowd.run(60)
    assert crowd.shares()["a"] == pytest.approx(0.5, abs=0.05)
