"""The lease table: events in, effects out."""

import math

import pytest
from msgspec.structs import replace

from furiosa.broker.lease import Claim, Event, Lease, Terms
from furiosa.broker.lease.states import (
    NOBODY,
    Busy,
    Cancelled,
    Changed,
    Closed,
    Draining,
    Elapsed,
    Ended,
    Forbidden,
    ForeignHeld,
    Granted,
    Handed,
    HolderGone,
    NoLongerWanted,
    Quiesced,
    Quota,
    Recalled,
    Refused,
    Released,
    Renewed,
    ShuttingDown,
    StopWorkers,
    Unknown,
)
from furiosa.common.names import DeviceFile
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import LeaseState
from support.lease_tables import Driver, card, changed, names, served, stopped

GRANTED, DETACHED, EXPIRING = LeaseState.GRANTED, LeaseState.DETACHED, LeaseState.EXPIRING
RECALLED, REVOKING, ENDED = LeaseState.RECALLED, LeaseState.REVOKING, LeaseState.ENDED


@pytest.fixture
def driver() -> Driver:
    return Driver(card(0), card(1))


def file(name: str) -> DeviceFile:
    return DeviceFile.parse(name)


# Granting and refusing


def test_a_free_device_is_granted_at_once_on_the_terms_that_were_asked_for(driver: Driver) -> None:
    driver.now = 7.0
    terms = Terms(time_to_live=60.0, linger=5.0)
    lease = driver.grant("warboy(2)*1", Claim("t"), holder=4, priority=2, terms=terms)
    assert lease == Lease(
        id="l1",
        holder=4,
        files=(file("npu0pe0-1"),),
        state=GRANTED,
        tenant="t",
        priority=2,
        terms=terms,
        granted_at=7.0,
        expires_at=67.0,
        ends_at=67.0,
        cores=2,
    )
    assert driver.table.leases == (lease,)
    assert driver.table.next_deadline() == 67.0


@pytest.mark.parametrize("wait", [None, math.inf])
@pytest.mark.parametrize(
    "spec",
    ["npu:0:0,npu:0:0", "warboy(1)*5", "warboy(2)*3", "npu:2:0", "npu:0:2", "npu:0,npu:0:1"],
)
def test_what_does_not_exist_is_refused_however_long_one_would_wait(
    driver: Driver, spec: str, wait: float | None
) -> None:
    """Source: devices reference 5.3 (the rows of errors)."""
    assert driver.refusal(spec, wait=wait) == Unknown()


@pytest.mark.parametrize("spec", ["npu:1:0", "warboy*3", "npu:0:0,npu:1:0"])
def test_what_exists_but_not_for_the_tenant_is_forbidden(driver: Driver, spec: str) -> None:
    claim = Claim("t", cards=frozenset({0, 5}))
    assert driver.refusal(spec, claim, wait=math.inf) == Forbidden()
    assert driver.refusal("npu:5", claim, wait=math.inf) == Unknown()


def test_what_is_held_is_refused_naming_the_lease_in_the_way(driver: Driver) -> None:
    lease = driver.grant("npu:0:1")
    assert driver.refusal("npu:0:0-1") == Busy(lease.id, file("npu0pe1"))
    assert driver.refusal("npu:0") == Busy(lease.id, file("npu0pe1"))


def test_the_whole_card_conflicts_with_everything_on_it(driver: Driver) -> None:
    lease = driver.grant("npu:0")
    for spec in ("npu:0", "npu:0:0", "npu:0:1", "npu:0:0-1"):
        assert driver.refusal(spec) == Busy(lease.id, file("npu0"))
    assert names(driver.grant("warboy(2)*1")) == ["npu1pe0-1"]


def test_all_is_granted_or_nothing(driver: Driver) -> None:
    driver.grant("npu:1:1")
    assert isinstance(driver.refusal("warboy*4"), Busy)
    assert len(driver.table.leases) == 1
    assert names(driver.grant("warboy*3")) == ["npu0pe0", "npu0pe1", "npu1pe0"]


def test_a_lease_of_several_files_counts_all_its_cores(driver: Driver) -> None:
    lease = driver.grant("npu:0,warboy*1", Claim("t", max_cores=4))
    assert lease.cores == 3
    assert driver.refusal("npu:1:1,npu:1:0", Claim("t", max_cores=4)) == Quota(
        "cores of the tenant", 5, 4
    )


def test_a_tenants_limit_of_cores_is_kept_and_freed_again(driver: Driver) -> None:
    claim = Claim("t", max_cores=2)
    lease = driver.grant("warboy(2)*1", claim)
    assert driver.refusal("warboy*1", claim) == Quota("cores of the tenant", 3, 2)
    driver.handle(Released(lease.id, ""))
    assert driver.refusal("warboy*1", claim) == Quota("cores of the tenant", 3, 2)
    driver.handle(Quiesced(lease.id))
    driver.grant("warboy*1", claim)


def test_a_newcomer_does_not_take_what_one_ahead_waits_for(driver: Driver) -> None:
    lease = driver.grant("npu:0:0")
    big = driver.wait("npu:0:0-1")
    assert driver.refusal("npu:0:1") == Busy(None, None)
    assert driver.end(lease) == [big]


def test_a_waiter_for_one_card_does_not_hold_up_another(driver: Driver) -> None:
    driver.grant("npu:0")
    driver.wait("npu:0:0")
    assert names(driver.grant("npu:1:0")) == ["npu1pe0"]


# Ending


def test_a_released_core_is_free_only_when_its_workers_have_stopped(driver: Driver) -> None:
    lease = driver.grant("npu:0:0")
    driver.now = 5.0
    (stop,) = driver.handle(Released(lease.id, "bye"))
    assert stop == StopWorkers(replace(lease, state=REVOKING, cause="bye"))
    assert driver.refusal("npu:0:0") == Busy(lease.id, file("npu0pe0"))
    driver.now = 9.0
    (ended,) = driver.handle(Quiesced(lease.id))
    assert ended == Ended(replace(lease, state=ENDED, cause="bye"), held=9.0)
    assert driver.table.get(lease.id) is None
    driver.grant("npu:0:0")


def test_the_end_of_one_and_the_grant_of_the_next_come_in_that_order(driver: Driver) -> None:
    lease = driver.grant("npu:0")
    driver.wait("npu:0")
    driver.handle(Released(lease.id, ""))
    assert [type(effect) for effect in driver.handle(Quiesced(lease.id))] == [Ended, Granted]


def test_a_lease_is_revoked_once_and_ends_once(driver: Driver) -> None:
    lease = driver.grant("npu:0")
    assert driver.handle(Quiesced(lease.id)) == ()
    assert stopped(driver.handle(Released(lease.id, ""))) == [lease.id]
    for event in (
        Released(lease.id, ""),
        Recalled(lease.id, "", 1.0),
        Renewed(lease.id, 5.0),
        Handed(lease.id, 9),
        HolderGone(lease.holder, ""),
        Elapsed(),
    ):
        assert driver.handle(event) == ()
    assert len(driver.handle(Quiesced(lease.id))) == 1
    assert driver.handle(Quiesced(lease.id)) == ()


def test_a_holder_that_is_gone_loses_everything(driver: Driver) -> None:
    mine = [driver.grant(spec, holder=3).id for spec in ("npu:0:0", "npu:0:1")]
    driver.grant("npu:1:0", holder=4)
    request = driver.wait("npu:0:0-1", holder=5)
    assert stopped(driver.handle(HolderGone(3, "died"))) == mine
    assert served(driver.handle(Quiesced(mine[0]))) == []
    assert served(driver.handle(Quiesced(mine[1]))) == [request]


@pytest.mark.parametrize(
    "event",
    [
        *(Released("nope", ""), Quiesced("nope"), Renewed("nope", None), Handed("nope", 1)),
        *(Recalled("nope", "", 1.0), Cancelled(99), HolderGone(99, ""), HolderGone(NOBODY, "")),
        *(Elapsed(), Closed(9, "cordon", "why"), ForeignHeld(frozenset({file("npu9")}))),
    ],
)
def test_an_event_about_something_unknown_changes_nothing(driver: Driver, event: Event) -> None:
    lease = driver.grant("npu:0")
    assert driver.handle(event) == ()
    assert driver.table.leases == (lease,)


# Terms


def test_a_lease_expires_in_two_phases(driver: Driver) -> None:
    lease = driver.grant("npu:0", terms=Terms(time_to_live=60.0))
    driver.now = 59.9
    assert driver.handle(Elapsed()) == ()
    driver.now = 60.0
    expiring = changed(driver.handle(Elapsed()))
    assert (expiring.state, expiring.ends_at) == (EXPIRING, 70.0)
    driver.now = 70.0
    assert stopped(driver.handle(Elapsed())) == [lease.id]
    assert driver.table.next_deadline() == math.inf


def test_a_lease_that_is_renewed_while_it_expires_is_granted_again(driver: Driver) -> None:
    lease = driver.grant("npu:0", terms=Terms(time_to_live=60.0))
    driver.now = 60.0
    driver.handle(Elapsed())
    driver.now = 69.0
    assert changed(driver.handle(Renewed(lease.id, None))) == replace(
        lease, expires_at=129.0, ends_at=129.0
    )
    driver.now = 128.0
    assert driver.handle(Elapsed()) == ()
    driver.now = 129.0
    assert changed(driver.handle(Elapsed())).state is EXPIRING


def test_a_recalled_lease_goes_when_its_grace_is_over(driver: Driver) -> None:
    lease = driver.grant("npu:0", terms=Terms(time_to_live=2.0))
    assert changed(driver.handle(Recalled(lease.id, "wanted", 30.0))).ends_at == 30.0
    driver.now = 5.0
    assert driver.handle(Elapsed()) == (), "its time to live does not matter any more"
    assert changed(driver.handle(Recalled(lease.id, "at once", 1.0))).ends_at == 6.0
    assert driver.handle(Recalled(lease.id, "no hurry", 100.0)) == ()
    driver.now = 6.0
    (stop,) = driver.handle(Elapsed())
    assert isinstance(stop, StopWorkers)
    assert stop.lease.cause == "wanted"


def test_a_lingering_lease_is_detached_and_taken_up_again_by_another_holder(
    driver: Driver,
) -> None:
    lease = driver.grant("npu:0", holder=3, terms=Terms(linger=20.0))
    driver.now = 5.0
    detached = changed(driver.handle(HolderGone(3, "died")))
    assert (detached.state, detached.holder, detached.ends_at) == (DETACHED, NOBODY, 25.0)
    assert driver.handle(HolderGone(3, "died again")) == ()
    driver.now = 24.0
    assert changed(driver.handle(Handed(lease.id, 8))) == replace(lease, holder=8)
    driver.now = 100.0
    assert driver.handle(Elapsed()) == ()
    assert changed(driver.handle(HolderGone(8, "died"))).state is DETACHED


@pytest.mark.parametrize(("ttl", "ends"), [(None, 25.0), (60.0, 25.0), (12.0, 12.0)])
def test_a_detached_lease_ends_at_the_earlier_of_linger_and_time_to_live(
    driver: Driver, ttl: float | None, ends: float
) -> None:
    lease = driver.grant("npu:0", holder=3, terms=Terms(ttl, linger=20.0))
    driver.now = 5.0
    driver.handle(HolderGone(3, "died"))
    assert driver.table.next_deadline() == ends
    driver.now = ends
    assert stopped(driver.handle(Elapsed())) == [lease.id]


def test_a_lease_that_changes_hands_goes_with_its_new_holder(driver: Driver) -> None:
    lease = driver.grant("npu:0", holder=3)
    assert changed(driver.handle(Handed(lease.id, 4))).holder == 4
    assert driver.handle(HolderGone(3, "died")) == ()
    assert stopped(driver.handle(HolderGone(4, "died"))) == [lease.id]


def test_deadlines_that_come_together_are_all_met(driver: Driver) -> None:
    leases = [driver.grant("warboy*1", terms=Terms(float(ttl))) for ttl in (3, 1, 2)]
    late, _ = driver.ask("npu:0:0", 2.5)
    driver.now = 100.0
    effects = driver.handle(Elapsed())
    assert [e.lease.id for e in effects if isinstance(e, Changed)] == [
        leases[n].id for n in (1, 2, 0)
    ]
    assert [e.request for e in effects if isinstance(e, Refused)] == [late]
    assert driver.table.next_deadline() == 110.0


# Draining


def test_draining_refuses_waiters_and_newcomers_and_keeps_leases(driver: Driver) -> None:
    lease = driver.grant("npu:0")
    request = driver.wait("npu:0")
    assert driver.handle(Draining()) == (
        Refused(request, DeviceSpec.parse("npu:0"), ShuttingDown()),
    )
    assert driver.refusal("npu:1", wait=math.inf) == ShuttingDown()
    assert driver.state(lease) is GRANTED
    assert driver.end(lease) == []


# What it keeps


def test_nothing_is_left_of_what_is_over(driver: Driver) -> None:
    """Every index is empty again, and the accounts of tenants are few."""
    for round in range(50):
        driver.now += 1.0
        claim = Claim(f"t{round}", may_preempt=True)
        terms = Terms(time_to_live=50.0, linger=3.0)
        lease = driver.grant("npu:0", claim, holder=round + 1, terms=terms)
        driver.ask("npu:0", 30.0, claim, holder=round + 1, priority=5)
        driver.ask("npu:0", 30.0, claim, holder=round + 1000)
        driver.handle(Renewed(lease.id, 60.0))
        driver.handle(HolderGone(round + 1000, "died"))
        driver.handle(HolderGone(round + 1, "died"))
        driver.end(lease)
    table = driver.table._everybody
    assert table.leases == ()
    assert (table._held._by_holder, table._held._priorities, table.waiting) == ({}, {}, 0)
    assert (len(table._preemptors), table._shares._accounts) == (0, {})
    assert len(table._held._deadlines._heap) + len(table._request_deadlines._heap) <= 2 * 64
    driver.handle(Elapsed())
    assert table.next_deadline() == math.inf
    assert table._estate.cards.free_cores == 4


def test_a_holder_that_goes_while_it_waits_is_told_so(driver: Driver) -> None:
    driver.grant("npu:0")
    request = driver.wait("npu:0", holder=2)
    refused = Refused(request, DeviceSpec.parse("npu:0"), NoLongerWanted())
    assert driver.handle(HolderGone(2, "died")) == (refused,)
