"""That nobody waits for ever, and what a release costs however many wait."""

import heapq
import itertools
import math
import random
from collections.abc import Callable

import pytest

from furiosa.broker.lease import Card, Claim, Effect, Rules, placement
from furiosa.broker.lease.placement import Ordered
from furiosa.broker.lease.states import (
    Queued,
    Quiesced,
    Released,
    Requested,
)
from furiosa.broker.lease.waiting import PATIENCE
from furiosa.common.selector import DeviceSpec
from support.lease_tables import Driver, card, leases, served

SPEC = DeviceSpec.parse("npu:0:0")


class Stream:
    """Small requests that never stop: each holder lets go after a while, and another one asks."""

    def __init__(
        self, cards: tuple[Card, ...], specs: tuple[str, ...], claim: Callable[[int], Claim]
    ) -> None:
        self.driver = Driver(*cards)
        self.random = random.Random(11)
        self.specs = specs
        self.claim = claim
        self.ends: list[tuple[float, int, str]] = []
        self.order = itertools.count()
        self.served: dict[int, float] = {}  # when, by request

    def note(self, effects: tuple[Effect, ...]) -> None:
        for request, lease in leases(effects).items():
            self.served[request] = self.driver.now
            end = self.driver.now + self.random.uniform(0.5, 3.0)
            heapq.heappush(self.ends, (end, next(self.order), lease.id))

    def ask(self) -> None:
        claim = self.claim(next(self.order))
        self.note(self.driver.ask(self.random.choice(self.specs), math.inf, claim)[1])

    def step(self) -> None:
        self.driver.now, _, lease = heapq.heappop(self.ends)
        table, now = self.driver.table, self.driver.now
        table.handle(Released(lease, ""), now=now)
        self.note(table.handle(Quiesced(lease), now=now))
        self.ask()

    def wait_of(self, spec: str, claim: Claim) -> float:
        """How long the request waits, in seconds, while 5000 others are served at most."""
        for _ in range(60):
            self.ask()
        for _ in range(100):
            self.step()
        request, effects = self.driver.ask(spec, math.inf, claim)
        asked = self.driver.now
        assert effects == (Queued(request),)
        for _ in range(5000):
            self.step()
            if request in self.served:
                return self.served[request] - asked
        raise AssertionError(f"{spec} is starved")


SMALL = ("warboy*1",) * 12 + ("npu:1:0",)
FOUR = tuple(map(card, range(4)))
BIG = [
    "npu:1",
    "npu:1:0-1",
    "warboy(2)*1",
    "warboy(2)*4",
    "warboy*8",
    "npu:0,npu:3",
    "warboy*3,npu:2",
]


@pytest.mark.parametrize("spec", BIG)
def test_a_big_request_is_not_starved_by_small_ones_of_its_own_tenant(spec: str) -> None:
    stream = Stream(FOUR, SMALL, lambda _: Claim("t"))
    assert stream.wait_of(spec, Claim("t")) < 30.0


@pytest.mark.parametrize("spec", BIG)
def test_nor_by_those_of_a_hundred_tenants_that_have_less(spec: str) -> None:
    """Each has fewer cores and has used less than the tenant that asks, which goes on using some."""
    stream = Stream((*FOUR, card(4)), SMALL, lambda n: Claim(f"t{n % 100}"))
    big = Claim("big")
    stream.driver.grant("npu:4", big)
    assert stream.wait_of(spec, big) < Rules().aging * PATIENCE + 90.0


@pytest.mark.parametrize("priority", [0, 3])
def test_nobody_waits_longer_for_each_step_of_priority_than_aging(priority: int) -> None:
    driver = Driver(card(0), rules=Rules(aging=10.0))
    lease = driver.grant("npu:0", Claim("important"), priority=priority)
    patient = driver.wait("npu:0", Claim("patient"), priority=0)
    for second in range(100):
        driver.now = float(second)
        driver.wait("npu:0", Claim("important"), priority=priority)
        granted = leases(driver.handle(Released(lease.id, "")) + driver.handle(Quiesced(lease.id)))
        ((request, lease),) = granted.items()
        if request == patient:
            break
    assert driver.now <= priority * 10.0 + 1


# What a release costs


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Ordered]:
    """The specs for which files were looked for."""
    seen: list[Ordered] = []
    real = placement.place

    def counting(*args: object) -> object:
        seen.append(args[1])  # type: ignore[arg-type]  # the spec
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(placement, "place", counting)
    return seen


@pytest.mark.parametrize("waiters", [10, 1000])
@pytest.mark.parametrize("spec", ["npu:0:0", "warboy*1", "warboy(2)*1", "npu:0"])
def test_a_release_costs_the_same_for_ten_waiters_and_for_a_thousand(
    waiters: int, spec: str, looks: list[Ordered]
) -> None:
    driver = Driver(card(0), card(1))
    lease = driver.grant("npu:0", Claim("holder"))
    driver.grant("npu:1:0", Claim("holder"))
    driver.grant("npu:1:1", Claim("holder"))
    for number in range(waiters):
        driver.table.handle(
            Requested(number, 7, DeviceSpec.parse(spec), math.inf, Claim(f"t{number % 100}")),
            now=0.0,
        )
    driver.handle(Released(lease.id, ""))
    looks.clear()
    effects = driver.table.handle(Quiesced(lease.id), now=1.0)
    assert len(looks) <= 3
    assert len(effects) <= 3
    assert served(effects)


def test_idle_cards_that_no_waiter_may_use_do_not_make_a_release_dearer(
    looks: list[Ordered],
) -> None:
    driver = Driver(*map(card, range(8)))
    lease = driver.grant("npu:0:0", Claim("holder"))
    for number in range(300):
        spec = DeviceSpec.parse(("npu:0:0", "warboy*2", "npu:0")[number % 3])
        claim = Claim(f"t{number % 50}", cards=frozenset({0}))
        driver.table.handle(Requested(number, 7, spec, math.inf, claim), now=0.0)
    driver.handle(Released(lease.id, ""))
    looks.clear()
    driver.table.handle(Quiesced(lease.id), now=1.0)
    assert len(looks) <= 3
