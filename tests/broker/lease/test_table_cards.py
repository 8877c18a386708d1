"""Cards that come, go, close and are held by strangers, and what becomes of leases and waiters."""

import pytest
from msgspec.structs import replace

from furiosa.broker.lease import Claim
from furiosa.broker.lease.states import (
    Busy,
    CardsChanged,
    Closed,
    Elapsed,
    Forbidden,
    ForeignHeld,
    Quiesced,
    Refused,
    Shut,
    Unknown,
)
from furiosa.common.names import DeviceFile
from furiosa.common.views import LeaseState
from support.lease_tables import Driver, card, changed, names, served, stopped

GRANTED, DETACHED, EXPIRING = LeaseState.GRANTED, LeaseState.DETACHED, LeaseState.EXPIRING
RECALLED, REVOKING, ENDED = LeaseState.RECALLED, LeaseState.REVOKING, LeaseState.ENDED


@pytest.fixture
def driver() -> Driver:
    return Driver(card(0), card(1))


def file(name: str) -> DeviceFile:
    return DeviceFile.parse(name)


def test_leases_on_a_card_that_vanished_are_recalled_and_the_others_stay(driver: Driver) -> None:
    there, gone = driver.grant("npu:0"), driver.grant("npu:1:0")
    recalled = changed(driver.handle(CardsChanged((card(0),), 4.0)))
    assert (recalled.id, recalled.state, recalled.ends_at) == (gone.id, RECALLED, 4.0)
    assert recalled.cause == "npu1pe0 is gone"
    assert driver.state(there) is GRANTED
    assert [driver.table.has_card(npu) for npu in (0, 1)] == [True, False]
    driver.now = 4.0
    assert stopped(driver.handle(Elapsed())) == [gone.id]
    assert len(driver.handle(Quiesced(gone.id))) == 1


def test_a_lease_keeps_its_cores_when_its_card_comes_back(driver: Driver) -> None:
    lease = driver.grant("npu:1:0")
    driver.handle(CardsChanged((card(0),), 4.0))
    driver.handle(CardsChanged((card(0), card(1)), 4.0))
    assert driver.refusal("npu:1:0") == Busy(lease.id, file("npu1pe0"))
    driver.grant("npu:1:1")
    assert driver.end(lease) == []
    driver.grant("npu:1:0")


def test_a_lease_on_a_file_that_its_card_no_longer_has_is_recalled(driver: Driver) -> None:
    lease = driver.grant("npu:1:0-1")
    smaller = replace(card(1), cores=1, files=(file("npu1"), file("npu1pe0")))
    assert changed(driver.handle(CardsChanged((card(0), smaller), 4.0))).state is RECALLED
    request = driver.wait("npu:1:0")
    assert driver.end(lease) == [request]


def test_waiters_for_a_card_that_vanished_are_refused_and_counted_ones_wait_for_others(
    driver: Driver,
) -> None:
    lease = driver.grant("npu:0:0")
    driver.grant("npu:0:1"), driver.grant("npu:1")
    named, counted = driver.wait("npu:1:0"), driver.wait("warboy*1")
    too_many = driver.wait("warboy*3")
    effects = driver.handle(CardsChanged((card(0),), 4.0))
    refused = {e.request: e.refusal for e in effects if isinstance(e, Refused)}
    assert refused == {named: Unknown(), too_many: Unknown()}
    assert driver.end(lease) == [counted]


def test_waiters_whose_tenant_may_use_none_of_the_cards_left_are_told_so(driver: Driver) -> None:
    driver.grant("npu:1")
    request = driver.wait("warboy*1", Claim("t", cards=frozenset({1})))
    effects = driver.handle(CardsChanged((card(0),), 4.0))
    assert [e.refusal for e in effects if isinstance(e, Refused)] == [Forbidden()]
    assert driver.waiting() == []
    assert request


def test_a_new_card_serves_those_who_wait(driver: Driver) -> None:
    driver.grant("warboy(2)*2")
    first, second = driver.wait("warboy(2)*1"), driver.wait("warboy(2)*1")
    assert served(driver.handle(CardsChanged((card(0), card(1), card(9)), 4.0))) == [first]
    assert driver.waiting() == [second]


def test_a_card_that_comes_before_others_does_not_mix_them_up() -> None:
    """Cards are known by their place in order, which changes."""
    driver = Driver(card(3), card(5))
    lease = driver.grant("npu:5:0", Claim("t"))
    driver.grant("npu:3"), driver.grant("npu:5:1")
    driver.handle(ForeignHeld(frozenset({file("npu3pe0")})))
    driver.handle(Closed(3, "cordon", "why"))
    restricted = driver.wait("warboy*1", Claim("t", cards=frozenset({5})))
    driver.handle(CardsChanged((card(1), card(3), card(5)), 4.0))
    assert driver.table.closed(3) == {"cordon": "why"}
    assert driver.waiting() == [restricted], "npu1 is free, but not for that tenant"
    assert driver.end(lease) == [restricted]
    assert driver.refusal("npu:3:0") == Shut(3, "why")


def test_a_closed_card_is_not_granted_and_its_leases_stay_without_a_grace(driver: Driver) -> None:
    lease = driver.grant("npu:0:0")
    assert driver.handle(Closed(0, "cordon", "cordoned")) == ()
    assert driver.state(lease) is GRANTED
    assert driver.refusal("npu:0:1") == Shut(0, "cordoned")
    assert names(driver.grant("warboy*1")) == ["npu1pe0"]
    assert driver.table.closed(0) == {"cordon": "cordoned"}


def test_the_leases_of_a_card_that_is_closed_with_a_grace_are_recalled(driver: Driver) -> None:
    lease, other = driver.grant("npu:0"), driver.grant("npu:1")
    recalled = changed(driver.handle(Closed(0, "health", "too hot", 3.0)))
    assert (recalled.id, recalled.ends_at, recalled.cause) == (lease.id, 3.0, "npu0: too hot")
    assert driver.state(other) is GRANTED


def test_a_card_that_opens_again_serves_those_who_wait(driver: Driver) -> None:
    driver.handle(Closed(0, "cordon", "a"))
    driver.handle(Closed(0, "health", "b"))
    request = driver.wait("npu:0")
    assert driver.handle(Closed(0, "cordon", None)) == ()
    assert served(driver.handle(Closed(0, "health", None))) == [request]


def test_what_a_stranger_holds_is_not_granted_until_he_lets_go(driver: Driver) -> None:
    driver.handle(ForeignHeld(frozenset({file("npu0pe0")})))
    assert driver.refusal("npu:0:0") == Busy(None, file("npu0pe0"))
    request = driver.wait("npu:0")
    assert names(driver.grant("npu:1:0")) == ["npu1pe0"]
    assert driver.handle(ForeignHeld(frozenset({file("npu0pe1")}))) == ()
    assert served(driver.handle(ForeignHeld(frozenset()))) == [request]


def test_a_stranger_on_a_leased_core_takes_nothing_from_its_owner(driver: Driver) -> None:
    lease = driver.grant("npu:0:0")
    assert driver.handle(ForeignHeld(frozenset({file("npu0pe0")}))) == ()
    assert driver.state(lease) is GRANTED
    driver.end(lease)
    assert driver.refusal("npu:0:0") == Busy(None, file("npu0pe0"))


def test_leases_on_a_card_are_found_once_each(driver: Driver) -> None:
    lease = driver.grant("npu:0:0,npu:0:1,npu:1:0")
    assert driver.table.leases_on(0) == (lease,) == driver.table.leases_on(1)
    assert driver.table.leases_on(7) == ()
