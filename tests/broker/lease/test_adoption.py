"""Leases from before: taken over, or not."""

import math

import pytest
from msgspec.structs import replace

from furiosa.broker.lease import Claim, Lease
from furiosa.broker.lease.states import (
    NOBODY,
    Busy,
    Closed,
    Elapsed,
    ForeignHeld,
    Handed,
    HolderGone,
    Quiesced,
    Quota,
)
from furiosa.common.names import DeviceFile
from furiosa.common.views import LeaseState
from support.lease_tables import Driver, card, changed, names, stopped

GRANTED, DETACHED, EXPIRING = LeaseState.GRANTED, LeaseState.DETACHED, LeaseState.EXPIRING
RECALLED, REVOKING, ENDED = LeaseState.RECALLED, LeaseState.REVOKING, LeaseState.ENDED


@pytest.fixture
def driver() -> Driver:
    return Driver(card(0), card(1))


def file(name: str) -> DeviceFile:
    return DeviceFile.parse(name)


def before(spec: str, id: str = "old", **changes: object) -> Lease:
    files = tuple(DeviceFile.parse(name) for name in spec.split())
    lease = Lease(id, NOBODY, files, GRANTED, tenant="t")
    return replace(lease, **changes)


def test_a_lease_from_before_holds_its_cores_counts_and_ends_as_any_other(driver: Driver) -> None:
    lease = before("npu0 npu1pe1", state=DETACHED, ends_at=30.0)
    assert driver.table.adopt(lease, 1.0, 0.0)
    driver.table.check()
    assert driver.table.leases == (replace(lease, cores=3),)
    assert driver.refusal("npu:0:0") == Busy("old", file("npu0"))
    assert driver.refusal("npu:1:0", Claim("t", max_cores=3)) == Quota("cores of the tenant", 4, 3)
    driver.now = 30.0
    assert stopped(driver.handle(Elapsed())) == ["old"]
    driver.handle(Quiesced("old"))
    assert names(driver.grant("npu:0")) == ["npu0"]


@pytest.mark.parametrize(
    "spec", ["npu0", "npu0pe0", "npu0pe0-1", "npu1pe0 npu0pe0", "npu7", "npu0pe7", "npu1 npu1pe0"]
)
def test_a_lease_from_before_never_gets_a_core_that_is_not_free(driver: Driver, spec: str) -> None:
    taken = driver.grant("npu:0:0")
    assert not driver.table.adopt(before(spec), 1.0, 0.0)
    driver.table.check()
    assert driver.table.leases == (taken,)
    driver.grant("npu:1")


def test_the_same_lease_is_not_adopted_twice(driver: Driver) -> None:
    assert driver.table.adopt(before("npu0pe0"), 1.0, 0.0)
    assert not driver.table.adopt(before("npu0pe1"), 1.0, 0.0)
    driver.table.check()


def test_a_lease_from_before_may_be_on_a_closed_card_and_on_foreign_cores(driver: Driver) -> None:
    driver.handle(Closed(0, "cordon", "why"))
    driver.handle(ForeignHeld(frozenset({file("npu0pe0")})))
    assert driver.table.adopt(before("npu0pe0"), 1.0, 0.0)
    driver.table.check()


def test_a_lease_from_before_is_taken_up_by_its_owner(driver: Driver) -> None:
    driver.table.adopt(before("npu0pe0", state=DETACHED, ends_at=30.0), 1.0, 0.0)
    resumed = changed(driver.handle(Handed("old", 6)))
    assert (resumed.state, resumed.holder, resumed.ends_at) == (GRANTED, 6, math.inf)
    assert stopped(driver.handle(HolderGone(6, "died"))) == ["old"]
