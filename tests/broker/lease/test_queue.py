"""What a waiter is told."""

import math

import pytest

from furiosa.broker.lease import Claim
from furiosa.broker.lease.states import (
    Busy,
    Cancelled,
    Closed,
    ForeignHeld,
    Obstacle,
    Quota,
    Shut,
)
from furiosa.common.names import DeviceFile
from support.lease_tables import Driver, card


def positions(driver: Driver) -> dict[int, int]:
    queue = driver.table.queue(driver.now)
    return {place.waiter.requested.request: place.position for place in queue}


def obstacle(driver: Driver, request: int) -> Obstacle:
    (found,) = (
        place.obstacle
        for place in driver.table.queue(driver.now)
        if place.waiter.requested.request == request
    )
    return found


def file(name: str) -> DeviceFile:
    return DeviceFile.parse(name)


@pytest.fixture
def driver() -> Driver:
    """Everything is taken: npu0 by l1, npu1pe0 by l2, npu1pe1 by l3."""
    driver = Driver(card(0), card(1))
    for spec in ("npu:0", "npu:1:0", "npu:1:1"):
        driver.grant(spec, Claim("holder"))
    return driver


def test_those_who_want_the_same_card_stand_in_one_line(driver: Driver) -> None:
    first, second, third = (driver.wait(spec) for spec in ("npu:0:0", "npu:0:1", "npu:0"))
    assert positions(driver) == {first: 1, second: 2, third: 3}


def test_those_who_want_other_cards_are_not_counted(driver: Driver) -> None:
    driver.wait("npu:0")
    driver.wait("npu:0:1")
    other = driver.wait("npu:1:0")
    assert positions(driver)[other] == 1


def test_a_counted_request_is_behind_everybody_and_ahead_of_everybody(driver: Driver) -> None:
    requests = [
        driver.wait(spec) for spec in ("npu:0", "npu:1:0", "warboy*1", "npu:1:1", "npu:0:1")
    ]
    assert positions(driver) == dict(zip(requests, (1, 1, 3, 3, 3), strict=True))


def test_a_request_for_two_cards_is_in_both_lines(driver: Driver) -> None:
    requests = [driver.wait(spec) for spec in ("npu:0", "npu:0", "npu:1:0,npu:0:0", "npu:1:0")]
    assert positions(driver) == dict(zip(requests, (1, 2, 3, 2), strict=True))


def test_positions_follow_the_turn_and_not_the_time_of_asking(driver: Driver) -> None:
    early = driver.wait("npu:0")
    urgent = driver.wait("npu:0", priority=3)
    assert positions(driver) == {urgent: 1, early: 2}


def test_everybody_moves_up_when_one_leaves(driver: Driver) -> None:
    first, second = driver.wait("npu:0"), driver.wait("npu:0")
    driver.handle(Cancelled(first))
    assert positions(driver) == {second: 1}


def test_the_lease_in_the_way_is_named_with_its_file(driver: Driver) -> None:
    request = driver.wait("npu:1:0-1")
    assert obstacle(driver, request) == Busy("l2", file("npu1pe0"))
    driver.end("l2")
    assert obstacle(driver, request) == Busy("l3", file("npu1pe1"))


def test_a_counted_request_is_told_of_a_lease_on_an_open_card_that_it_may_use(
    driver: Driver,
) -> None:
    everywhere = driver.wait("warboy*1")
    restricted = driver.wait("warboy*1", Claim("r", cards=frozenset({1})))
    assert obstacle(driver, everywhere) == Busy("l1", file("npu0"))
    assert obstacle(driver, restricted) == Busy("l2", file("npu1pe0"))
    driver.handle(Closed(0, "cordon", "why"))
    assert obstacle(driver, everywhere) == Busy("l2", file("npu1pe0"))


def test_a_stranger_in_the_way_is_named_by_the_file_alone() -> None:
    driver = Driver(card(0))
    driver.handle(ForeignHeld(frozenset({file("npu0pe1"), file("npu0pe0")})))
    assert obstacle(driver, driver.wait("npu:0:0-1")) == Busy(None, file("npu0pe0"))
    assert obstacle(driver, driver.wait("npu:0:1")) == Busy(None, file("npu0pe1"))
    assert obstacle(driver, driver.wait("warboy*1")) == Busy(None, file("npu0pe0"))


def test_a_closed_card_is_named_with_all_its_reasons(driver: Driver) -> None:
    request = driver.wait("npu:0")
    driver.handle(Closed(0, "cordon", "cordoned"))
    driver.handle(Closed(0, "health", "alive is 0"))
    assert obstacle(driver, request) == Shut(0, "cordoned; alive is 0")


def test_a_counted_request_waits_for_a_card_to_open_only_when_all_are_closed(
    driver: Driver,
) -> None:
    request = driver.wait("warboy*1")
    driver.handle(Closed(1, "cordon", "b"))
    assert obstacle(driver, request) == Busy("l1", file("npu0"))
    driver.handle(Closed(0, "cordon", "a"))
    assert obstacle(driver, request) == Shut(0, "a")


def test_nor_when_cores_of_the_open_card_are_only_held_for_those_ahead() -> None:
    driver = Driver(card(0), card(1))
    driver.handle(Closed(0, "cordon", "why"))
    driver.wait("warboy(2)*2")
    assert obstacle(driver, driver.wait("warboy*1")) == Busy(None, None)


def test_a_closed_card_that_a_mixed_request_does_not_name_is_not_in_its_way() -> None:
    driver = Driver(card(0), card(1), card(2))
    driver.grant("npu:1:0")
    request = driver.wait("npu:1:0,warboy*1")
    driver.handle(Closed(2, "cordon", "why"))
    assert obstacle(driver, request) == Busy("l1", file("npu1pe0"))


def test_only_those_ahead_can_be_in_the_way() -> None:
    driver = Driver(card(0))
    driver.grant("npu:0:0")
    driver.wait("npu:0:0-1")
    assert driver.refusal("npu:0:1") == Busy(None, None)


def test_the_tenants_own_limit_is_named_with_what_it_would_have() -> None:
    driver = Driver(card(0))
    claim = Claim("t", max_cores=1)
    driver.grant("npu:0:0", claim)
    request = driver.wait("npu:0:1", claim)
    assert obstacle(driver, request) == Quota("cores of the tenant", 2, 1)
    assert driver.refusal("npu:0:1", claim, wait=math.nextafter(0.0, -1.0)) == Quota(
        "cores of the tenant", 2, 1
    )
