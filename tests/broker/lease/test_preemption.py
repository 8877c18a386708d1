"""Who is recalled for a request of higher priority."""

import math

import pytest

from furiosa.broker.lease import Claim, Effect, Lease, Terms
from furiosa.broker.lease.states import (
    NOBODY,
    CardsChanged,
    Changed,
    Closed,
    Elapsed,
    ForeignHeld,
    HolderGone,
    Queued,
    Quiesced,
    Released,
    Renewed,
)
from furiosa.common.names import DeviceFile
from furiosa.common.views import LeaseState
from support.lease_tables import Driver, card, served

CHIEF = Claim("chief", may_preempt=True)
WORKER = Claim("worker")


def recalled(effects: tuple[Effect, ...]) -> list[str]:
    return [
        effect.lease.id
        for effect in effects
        if isinstance(effect, Changed) and effect.lease.state is LeaseState.RECALLED
    ]


def preempt(driver: Driver, spec: str, claim: Claim = CHIEF, priority: int = 5) -> list[str]:
    """The leases that are recalled for it."""
    request, effects = driver.ask(spec, math.inf, claim, holder=9, priority=priority)
    assert effects[0] == Queued(request)
    return recalled(effects)


@pytest.fixture
def driver() -> Driver:
    return Driver(card(0), card(1))


def fill(driver: Driver, *priorities: int) -> list[Lease]:
    return [driver.grant("warboy*1", WORKER, priority=priority) for priority in priorities]


def test_the_owner_of_what_is_needed_has_a_grace_and_is_told_for_whom(driver: Driver) -> None:
    (lease,) = fill(driver, 0)
    assert preempt(driver, "npu:0:0") == [lease.id]
    (now,) = driver.table.leases
    assert (now.state, now.ends_at) == (LeaseState.RECALLED, 10.0)
    assert now.cause == "preempted by tenant chief"


def test_it_gets_the_cores_when_the_victim_has_let_go(driver: Driver) -> None:
    (lease,) = fill(driver, 0)
    request, _ = driver.ask("npu:0:0", math.inf, CHIEF, priority=5)
    driver.now = 10.0
    driver.handle(Elapsed())
    assert driver.state(lease) is LeaseState.REVOKING
    assert served(driver.handle(Quiesced(lease.id))) == [request]


@pytest.mark.parametrize(("mine", "theirs"), [(0, 0), (3, 3), (-1, 0), (2, 5)])
@pytest.mark.parametrize("elsewhere", [(), (-9, -9)])
def test_only_strictly_lower_priority_is_preempted(
    driver: Driver, mine: int, theirs: int, elsewhere: tuple[int, ...]
) -> None:
    fill(driver, theirs, *elsewhere)
    assert preempt(driver, "npu:0:0", priority=mine) == []


def test_only_those_may_preempt_whose_tenant_may(driver: Driver) -> None:
    fill(driver, 0)
    assert preempt(driver, "npu:0:0", WORKER) == []


def test_who_does_not_wait_preempts_nobody(driver: Driver) -> None:
    (lease,) = fill(driver, 0)
    driver.refusal("npu:0:0", CHIEF)
    assert driver.state(lease) is LeaseState.GRANTED


def test_nobody_is_recalled_while_there_is_a_free_core(driver: Driver) -> None:
    fill(driver, 0, 0, 0)
    assert driver.grant("warboy*1", CHIEF, priority=5).files == (DeviceFile.parse("npu1pe1"),)


def test_the_least_important_is_recalled(driver: Driver) -> None:
    leases = fill(driver, 2, 1, 4, 2)
    assert preempt(driver, "warboy*1") == [leases[1].id]


def test_among_equals_the_one_that_came_last_is_recalled(driver: Driver) -> None:
    for _ in range(4):
        fill(driver, 0)
        driver.now += 1.0
    assert preempt(driver, "warboy*1") == ["l4"]


def test_as_few_as_will_do(driver: Driver) -> None:
    fill(driver, 0, 0)
    fused = driver.grant("warboy(2)*1", WORKER)
    assert preempt(driver, "warboy(2)*1") == [fused.id]


def test_among_single_victims_the_one_with_the_fewest_cores(driver: Driver) -> None:
    single = driver.grant("npu:0:0", WORKER)
    driver.grant("npu:0:1", WORKER, priority=9)
    driver.now = 5.0
    driver.grant("npu:1", WORKER)
    assert preempt(driver, "warboy*1") == [single.id]


def test_a_lease_that_must_go_for_one_item_is_not_counted_again_for_the_next(
    driver: Driver,
) -> None:
    both = driver.grant("npu:0:0,npu:1:0", WORKER, priority=3)
    fill(driver, 0, 0)
    assert preempt(driver, "npu:0:0,warboy*1") == [both.id]


def test_what_several_items_need_is_recalled_together(driver: Driver) -> None:
    leases = fill(driver, 0, 0, 0, 0)
    assert sorted(preempt(driver, "warboy*3")) == sorted(lease.id for lease in leases[:3])


def test_all_or_nothing_is_recalled(driver: Driver) -> None:
    fill(driver, 0, 0, 0, 9)
    assert preempt(driver, "warboy(2)*2") == []
    assert preempt(driver, "npu:0:0,npu:1:1") == []


def test_cores_that_recalling_cannot_free_cost_nobody_a_lease(driver: Driver) -> None:
    fill(driver, 0, 0, 0, 0)
    driver.handle(ForeignHeld(frozenset({DeviceFile.parse("npu0pe1")})))
    driver.handle(Closed(1, "cordon", "why"))
    assert preempt(driver, "npu:0:0-1") == []
    assert preempt(driver, "npu:1:0") == []
    assert preempt(driver, "warboy*1") == ["l1"]


def test_only_cards_of_its_tenant_are_taken(driver: Driver) -> None:
    fill(driver, 0, 0, 0, 0)
    claim = Claim("chief", cards=frozenset({1}), may_preempt=True)
    assert preempt(driver, "warboy*2", claim) == ["l3", "l4"]


def test_what_is_on_its_way_out_is_awaited_and_nobody_else_recalled(driver: Driver) -> None:
    leases = fill(driver, 0, 0, 0, 0)
    driver.handle(Released(leases[2].id, "bye"))
    assert preempt(driver, "warboy*1") == []


def test_the_same_cores_are_promised_once(driver: Driver) -> None:
    fill(driver, 0, 0, 0, 0)
    victims = [preempt(driver, "warboy*1") for _ in range(5)]
    assert sorted(id for ids in victims for id in ids) == ["l1", "l2", "l3", "l4"]
    assert victims[4] == []


def test_nobody_else_is_recalled_while_it_awaits_the_first(driver: Driver) -> None:
    leases = fill(driver, 0, 0, 0, 1)
    assert preempt(driver, "npu:0:0-1") == ["l1", "l2"]
    effects = driver.handle(Released(leases[2].id, "bye")) + driver.handle(Quiesced("l3"))
    driver.handle(Released("l1", "bye"))
    effects += driver.handle(Quiesced("l1"))
    assert recalled(effects) == []
    assert driver.end("l2") == [5]


def test_when_another_took_what_was_freed_for_it_more_is_recalled_but_not_before_all_has_ended(
    driver: Driver,
) -> None:
    fill(driver, 0, 0, 0, 0)
    urgent = driver.wait("warboy*1", WORKER, priority=9)
    assert preempt(driver, "warboy(2)*1") == ["l1", "l2"]
    driver.handle(Released("l1", "bye"))
    effects = driver.handle(Quiesced("l1"))
    assert (served(effects), recalled(effects)) == ([urgent], [])
    driver.handle(Released("l2", "bye"))
    assert recalled(driver.handle(Quiesced("l2"))) == ["l3", "l4"]


def test_a_tenant_at_its_own_limit_recalls_nobody_until_it_may_have_more(driver: Driver) -> None:
    claim = Claim("chief", max_cores=1, may_preempt=True)
    mine = driver.grant("npu:0:0", claim, priority=5)
    theirs = driver.grant("npu:1:0", WORKER)
    assert preempt(driver, "npu:1:0", claim) == []
    driver.handle(Released(mine.id, "bye"))
    assert recalled(driver.handle(Quiesced(mine.id))) == [theirs.id]


def test_an_expiring_lease_is_recalled_so_that_it_cannot_be_renewed(driver: Driver) -> None:
    lease = driver.grant("npu:0:0", WORKER, terms=Terms(time_to_live=1.0))
    driver.now = 1.0
    driver.handle(Elapsed())
    assert preempt(driver, "npu:0:0") == [lease.id]
    assert driver.handle(Renewed(lease.id, None)) == ()


def test_a_detached_lease_goes_at_once(driver: Driver) -> None:
    lease = driver.grant("npu:0:0", WORKER, holder=4, terms=Terms(linger=60.0))
    driver.handle(HolderGone(4, "died"))
    found = driver.table.get(lease.id)
    assert found is not None
    assert (found.state, found.holder) == (LeaseState.DETACHED, NOBODY)
    preempt(driver, "npu:0:0")
    assert driver.state(lease) is LeaseState.REVOKING


def test_a_card_that_opens_again_is_preempted_on(driver: Driver) -> None:
    (lease,) = fill(driver, 0)
    driver.handle(Closed(0, "cordon", "why"))
    assert preempt(driver, "npu:0:0") == []
    assert recalled(driver.handle(Closed(0, "cordon", None))) == [lease.id]


def test_so_are_cores_that_a_stranger_has_left(driver: Driver) -> None:
    (lease,) = fill(driver, 0)
    driver.handle(ForeignHeld(frozenset({DeviceFile.parse("npu0pe1")})))
    assert preempt(driver, "npu:0:0-1") == []
    assert recalled(driver.handle(ForeignHeld(frozenset()))) == [lease.id]


def test_plans_follow_the_cards(driver: Driver) -> None:
    """What was promised on a card is promised there, also when the card has another place."""
    fill(driver, 0, 0, 0, 0)
    assert preempt(driver, "npu:1:0") == ["l3"]
    driver.handle(CardsChanged((card(1), card(2)), 5.0))
    assert preempt(driver, "npu:1:0") == []
    other = driver.grant("npu:2:0", WORKER)
    assert preempt(driver, "npu:2:0") == [other.id], "it has the place that npu1 had"


def test_a_preemptor_that_goes_leaves_nothing_behind(driver: Driver) -> None:
    fill(driver, 0)
    preempt(driver, "npu:0:0")
    driver.handle(HolderGone(9, "died"))
    assert len(driver.table._everybody._preemptors) == 0
    assert driver.waiting() == []
