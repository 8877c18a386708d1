"""Whose turn it is, and that nobody waits for ever."""

import math
from collections.abc import Callable

import pytest

from furiosa.broker.lease import Card, Claim, Lease, Policy, Rules, Terms
from furiosa.broker.lease.fairness import Shares
from furiosa.broker.lease.placement import Ordered
from furiosa.broker.lease.states import (
    Busy,
    Cancelled,
    CardsChanged,
    Elapsed,
    Granted,
    HolderGone,
    NoLongerWanted,
    Quiesced,
    Quota,
    Refused,
    Released,
    Requested,
)
from furiosa.broker.lease.waiting import Waiter, WaitingLine
from furiosa.common.selector import DeviceSpec
from support.lease_tables import Driver, card, leases, served

SPEC = DeviceSpec.parse("npu:0:0")


@pytest.fixture
def driver() -> Driver:
    return Driver(card(0))


def served_in_order(driver: Driver, lease: Lease) -> list[int]:
    """End the lease, then the one that is granted by that, and so on."""
    order: list[int] = []
    ending: Lease | None = lease
    while ending is not None:
        driver.handle(Released(ending.id, ""))
        granted = leases(driver.handle(Quiesced(ending.id)))
        order += granted
        ending = next(iter(granted.values()), None)
    return order


# The order


def test_within_a_tenant_the_first_to_come_is_the_first_served(driver: Driver) -> None:
    lease = driver.grant("npu:0")
    requests = [driver.wait(spec) for spec in ("npu:0:0-1", "warboy(2)*1", "npu:0", "npu:0")]
    assert served_in_order(driver, lease) == requests


def test_higher_priority_goes_first(driver: Driver) -> None:
    lease = driver.grant("npu:0")
    low, high, middle = (driver.wait("npu:0", priority=priority) for priority in (-1, 7, 3))
    assert driver.waiting() == [high, middle, low]
    assert served_in_order(driver, lease) == [high, middle, low]


def test_a_tenant_without_cores_goes_before_one_that_has_some() -> None:
    driver = Driver(card(0), card(1))
    driver.grant("npu:0", Claim("rich"))
    lease = driver.grant("npu:1", Claim("other"))
    rich, poor = driver.wait("npu:1", Claim("rich")), driver.wait("npu:1", Claim("poor"))
    assert served_in_order(driver, lease) == [poor, rich]


@pytest.mark.parametrize("next_spec", ["warboy*1", "npu:0:1"])
def test_what_is_granted_counts_at_once_for_the_tenants_next(next_spec: str) -> None:
    """Two cores become free together: they go to two tenants, though the first one's came first."""
    driver = Driver(card(0))
    lease = driver.grant("npu:0", Claim("other"))
    first = driver.wait("warboy*1", Claim("a"))
    driver.wait(next_spec, Claim("a"))
    third = driver.wait("warboy*1", Claim("b"))
    assert driver.end(lease) == [first, third]


def test_priority_rises_by_one_for_every_aging_of_waiting() -> None:
    driver = Driver(card(0), rules=Rules(aging=10.0))
    driver.grant("npu:0")
    low = driver.wait("npu:0", Claim("low"), priority=0)
    driver.now = 15.0
    high = driver.wait("npu:0", Claim("high"), priority=2)
    driver.now = 19.9
    assert driver.waiting() == [high, low]
    driver.now = 20.0
    assert driver.waiting() == [low, high], "equal ranks and shares: the first to come"


def test_time_alone_is_looked_at_only_while_there_is_something_to_give() -> None:
    driver = Driver(card(0), rules=Rules(aging=10.0))
    lease = driver.grant("npu:0:0", Claim("other"))
    small = driver.wait("npu:0:0", Claim("small"))
    assert driver.table.next_deadline() == 10.0, "npu0pe1 is free"
    driver.grant("npu:0:1", Claim("other"))
    driver.handle(Elapsed())
    assert driver.table.next_deadline() == math.inf, "nothing is"
    assert driver.end(lease) == [small]
    assert driver.table.next_deadline() == math.inf, "nobody waits"


@pytest.mark.parametrize("tenants", ["aaa", "abc"])
@pytest.mark.parametrize("cards", [(5,), (1, 5)])
def test_who_has_waited_in_a_broker_before_is_where_he_was(
    tenants: str, cards: tuple[int, ...]
) -> None:
    """Also when the cards change, and with them their places."""
    driver = Driver(card(5))
    lease = driver.grant("npu:5", Claim("other"))
    driver.now = 100.0
    spec = DeviceSpec.parse("npu:5")
    for request, (tenant, waited) in enumerate(zip(tenants, (3.0, 9.0, 6.0), strict=True)):
        driver.handle(Requested(request, 1, spec, math.inf, Claim(tenant), waited=waited))
    driver.handle(CardsChanged(tuple(map(card, cards)), 1.0))
    assert served_in_order(driver, lease) == [1, 2, 0]


# Leaving the line


def test_a_request_that_is_cancelled_lets_others_through(driver: Driver) -> None:
    driver.grant("npu:0:0")
    big, small = driver.wait("npu:0"), driver.wait("npu:0:1")
    assert served(driver.handle(Cancelled(big))) == [small]
    assert driver.handle(Cancelled(big)) == ()


def test_a_holder_that_is_gone_is_out_of_line_at_once_and_lets_others_through(
    driver: Driver,
) -> None:
    driver.grant("npu:0:0")
    gone = [driver.wait("npu:0", holder=5), driver.wait("npu:0:1", holder=5)]
    small = driver.wait("npu:0:1", holder=6)
    *refused, granted = driver.handle(HolderGone(5, "died"))
    assert [(e.request, e.refusal) for e in refused if isinstance(e, Refused)] == [
        (request, NoLongerWanted()) for request in gone
    ]
    assert served((granted,)) == [small]


def test_a_limit_that_passes_refuses_and_lets_others_through(driver: Driver) -> None:
    lease = driver.grant("npu:0:0")
    late, _ = driver.ask("npu:0", 10.0)
    small = driver.wait("npu:0:1")
    assert driver.table.next_deadline() == 10.0
    driver.now = 9.9
    assert driver.handle(Elapsed()) == ()
    driver.now = 10.0
    refused, granted = driver.handle(Elapsed())
    assert refused == Refused(late, DeviceSpec.parse("npu:0"), Busy(lease.id, lease.files[0]))
    assert served((granted,)) == [small]
    assert driver.table.next_deadline() == math.inf


def test_a_limit_in_the_past_is_no_waiting_at_all(driver: Driver) -> None:
    lease = driver.grant("npu:0:0")
    assert driver.refusal("npu:0:0", wait=-1.0) == Busy(lease.id, lease.files[0])
    assert driver.refusal("npu:0:0", wait=0.0) == Busy(lease.id, lease.files[0])


def test_how_long_it_waited_is_told(driver: Driver) -> None:
    lease = driver.grant("npu:0:0")
    driver.wait("npu:0:0")
    driver.now = 42.0
    driver.handle(Released(lease.id, ""))
    _, granted = driver.handle(Quiesced(lease.id))
    assert isinstance(granted, Granted)
    assert granted.waited == 42.0


# Limits of a tenant


def test_a_tenant_may_have_only_so_many_requests_in_line(driver: Driver) -> None:
    claim = Claim("t", max_waiting=2)
    lease = driver.grant("npu:0", claim)
    first = driver.wait("npu:0", claim)
    driver.wait("npu:0", claim)
    refusal = driver.refusal("npu:0", claim, wait=9.0)
    assert refusal == Quota("waiting requests of the tenant", 3, 2)
    driver.wait("npu:0", Claim("another", max_waiting=1))
    driver.handle(Cancelled(first))
    driver.wait("npu:0", claim)
    assert driver.state(lease).value == "granted"


def test_who_need_not_wait_is_no_subject_of_that_limit(driver: Driver) -> None:
    claim = Claim("t", max_waiting=0)
    driver.grant("npu:0:0", claim)
    assert driver.refusal("npu:0:0", claim, wait=9.0) == Quota(
        "waiting requests of the tenant", 1, 0
    )
    driver.wait("npu:0:0", Claim("another"))
    driver.grant("npu:0:1", claim)


def test_more_cores_than_the_tenant_may_ever_have_are_not_waited_for(driver: Driver) -> None:
    claim = Claim("t", max_cores=1)
    assert driver.refusal("npu:0", claim, wait=9.0) == Quota("cores of the tenant", 2, 1)


def test_a_request_that_only_its_own_tenant_is_in_the_way_of_holds_nothing_back(
    driver: Driver,
) -> None:
    claim = Claim("t", max_cores=1)
    mine = driver.grant("npu:0:0", claim)
    blocked = driver.wait("npu:0:1", claim)
    another = driver.grant("npu:0:1", Claim("another"))
    assert driver.end(another) == []
    assert driver.end(mine) == [blocked]


def test_nor_does_it_when_it_has_the_highest_priority(driver: Driver) -> None:
    claim = Claim("t", max_cores=1)
    driver.grant("npu:0:0", claim)
    driver.wait("npu:0:1", claim, priority=9)
    assert driver.grant("warboy*1", Claim("another")).files


def test_a_tenant_never_has_more_cores_than_it_may() -> None:
    """The fused file of one card has more cores than the one that was counted with."""
    wide = Card(1, 4, tuple(file for file in card(1, 4).files if file.cores.width >= 4))
    driver = Driver(card(0), wide, rules=Rules(policy=Policy.PACK))
    claim = Claim("t", max_cores=2)
    driver.grant("npu:0", Claim("other"))
    four = driver.grant("npu:1", Claim("other"))
    request = driver.wait("warboy(2)*1", claim)
    assert driver.end(four) == [], "four cores are more than it may have"
    assert driver.waiting() == [request]


# The line by itself


def waiter_line(*requests: tuple[str, int]) -> tuple[WaitingLine, Shares]:
    line, shares = WaitingLine(aging=10.0), Shares()
    for number, (tenant, priority) in enumerate(requests):
        requested = Requested(number, 1, SPEC, math.inf, Claim(tenant), priority)
        line.append(requested, Ordered.of(SPEC), 1, 1, 0.0)
        shares.wait(tenant, 1.0, 1, 0.0)
    return line, shares


def turn(
    line: WaitingLine, shares: Shares, still: Callable[[Waiter], bool] | None = None
) -> list[int]:
    waiters = line.in_turn(shares, 0.0) if still is None else line.in_turn(shares, 0.0, still)
    return [waiter.requested.request for waiter in waiters]


def test_a_line_remembers_nothing_of_those_who_left() -> None:
    line, shares = waiter_line(("a", 0), ("a", 0), ("b", 1))
    for request in (1, 2, 0, 0):
        line.remove(request)
    assert (len(line), list(line), line._groups, turn(line, shares)) == (0, [], {}, [])


def test_the_one_whose_turn_it_is_may_leave() -> None:
    line, shares = waiter_line(("a", 0), ("a", 0), ("b", 0), ("a", 0))
    seen = []
    for waiter in line.in_turn(shares, 0.0):
        seen.append(waiter.requested.request)
        line.remove(waiter.requested.request)
    assert seen == [0, 1, 2, 3]
    assert len(line) == 0


def test_those_behind_one_that_is_left_out_are_left_out_too() -> None:
    line, shares = waiter_line(("a", 0), ("b", 0), ("a", 0), ("a", 1))
    out = {0}

    def still(waiter: Waiter) -> bool:
        return waiter.requested.request not in out

    assert turn(line, shares, still) == [3, 1]


def test_terms_are_those_that_were_asked_for_however_long_it_waited(driver: Driver) -> None:
    lease = driver.grant("npu:0")
    driver.ask("npu:0", math.inf, terms=Terms(time_to_live=5.0))
    driver.now = 100.0
    driver.handle(Released(lease.id, ""))
    _, granted = driver.handle(Quiesced(lease.id))
    assert isinstance(granted, Granted)
    assert granted.lease.expires_at == 105.0
