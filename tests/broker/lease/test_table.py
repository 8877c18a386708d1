"""The lease table: events in, effects out."""

import itertools
import math

import pytest

from furiosa.broker.lease import (
    Cancelled,
    Draining,
    Effect,
    Elapsed,
    Ended,
    Granted,
    HolderGone,
    Lease,
    LeaseTable,
    Quiesced,
    Refused,
    Released,
    Requested,
    StopWorkers,
)
from furiosa.broker.lease.states import TRANSITIONS, Busy, NoLongerWanted, ShuttingDown, Unknown
from furiosa.common.names import DeviceFile
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import LeaseState

FILES = [
    DeviceFile.parse(f"npu{card}{cores}")
    for card in (0, 1)
    for cores in ("", "pe0", "pe1", "pe0-1")
]


class Driver:
    """Drives a table and checks it after each step."""

    def __init__(self) -> None:
        ids = itertools.count()
        self.table = LeaseTable(FILES, lambda: f"l{next(ids)}")
        self.requests = itertools.count()

    def handle(self, event: object, now: float = 0.0) -> tuple[Effect, ...]:
        effects = self.table.handle(event, now=now)  # type: ignore[arg-type]  # any event
        self.table.check()
        return effects

    def ask(
        self, spec: str, *, holder: int = 1, wait: float | None = None, now: float = 0.0
    ) -> tuple[int, tuple[Effect, ...]]:
        request = next(self.requests)
        event = Requested(request, holder, DeviceSpec.parse(spec), wait)
        return request, self.handle(event, now)

    def granted(self, spec: str, *, holder: int = 1) -> Lease:
        _, effects = self.ask(spec, holder=holder)
        (effect,) = effects
        assert isinstance(effect, Granted)
        return effect.lease


@pytest.fixture
def driver() -> Driver:
    return Driver()


def test_a_free_device_is_granted_at_once(driver: Driver) -> None:
    lease = driver.granted("warboy(2)*1")
    assert lease == Lease("l0", 1, (DeviceFile.parse("npu0pe0-1"),), LeaseState.GRANTED)


def test_what_is_held_is_refused_naming_the_lease_in_the_way(driver: Driver) -> None:
    lease = driver.granted("npu:0:1")
    request, effects = driver.ask("npu:0:0-1", holder=2)
    assert effects == (
        Refused(
            request, DeviceSpec.parse("npu:0:0-1"), Busy(lease.id, DeviceFile.parse("npu0pe1"))
        ),
    )


def test_what_does_not_exist_is_not_waited_for(driver: Driver) -> None:
    request, effects = driver.ask("npu:7:0", wait=math.inf)
    assert effects == (Refused(request, DeviceSpec.parse("npu:7:0"), Unknown()),)


def test_a_released_core_is_free_only_when_its_workers_have_stopped(driver: Driver) -> None:
    lease = driver.granted("npu:0:0")
    (stop,) = driver.handle(Released(lease.id, "bye"))
    assert isinstance(stop, StopWorkers)
    assert (stop.lease.state, stop.cause) == (LeaseState.REVOKING, "bye")
    _, (refused,) = driver.ask("npu:0:0", holder=2)
    assert isinstance(refused, Refused)
    (ended,) = driver.handle(Quiesced(lease.id))
    assert isinstance(ended, Ended)
    assert driver.granted("npu:0:0", holder=2).holder == 2


def test_a_dead_holder_loses_everything_and_a_waiter_gets_it_after_quiescence(
    driver: Driver,
) -> None:
    first, second = driver.granted("npu:0:0"), driver.granted("npu:0:1")
    request, effects = driver.ask("npu:0:0-1", holder=2, wait=math.inf)
    assert effects == ()
    stops = driver.handle(HolderGone(1, "died"))
    assert [e.lease.id for e in stops if isinstance(e, StopWorkers)] == [first.id, second.id]
    assert [type(e) for e in driver.handle(Quiesced(first.id))] == [Ended]
    ended, granted = driver.handle(Quiesced(second.id))
    assert isinstance(ended, Ended)
    assert isinstance(granted, Granted)
    assert granted.request == request


def test_waiters_are_served_in_the_order_they_came(driver: Driver) -> None:
    lease = driver.granted("npu:0")
    requests = [driver.ask("npu:0:0", holder=h, wait=math.inf)[0] for h in (2, 3, 4)]
    served = []
    for _ in requests:
        driver.handle(Released(lease.id, ""))
        effects = driver.handle(Quiesced(lease.id))
        (granted,) = [e for e in effects if isinstance(e, Granted)]
        served.append(granted.request)
        lease = granted.lease
    assert served == requests


def test_small_requests_do_not_overtake_a_big_one_that_waits(driver: Driver) -> None:
    lease = driver.granted("npu:0:0")
    driver.ask("npu:0:0-1", holder=2, wait=math.inf)
    _, effects = driver.ask("npu:0:1", holder=3)
    assert [type(e) for e in effects] == [Refused]
    driver.handle(Released(lease.id, ""))
    _, granted = driver.handle(Quiesced(lease.id))
    assert isinstance(granted, Granted)
    assert granted.lease.holder == 2


def test_a_waiter_for_one_card_does_not_hold_up_another_card(driver: Driver) -> None:
    driver.granted("npu:0")
    driver.ask("npu:0:0", holder=2, wait=math.inf)
    assert driver.granted("npu:1:0", holder=3).holder == 3


def test_a_deadline_that_passes_refuses_and_lets_the_next_one_go(driver: Driver) -> None:
    driver.granted("npu:0:0")
    late, _ = driver.ask("npu:0:0-1", holder=2, wait=10.0)
    behind, _ = driver.ask("npu:0:1", holder=3, wait=math.inf)
    assert driver.table.next_deadline() == 10.0
    assert driver.handle(Elapsed(), now=9.9) == ()
    refused, granted = driver.handle(Elapsed(), now=10.0)
    assert isinstance(refused, Refused)
    assert refused.request == late
    assert isinstance(refused.refusal, Busy)
    assert isinstance(granted, Granted)
    assert granted.request == behind
    assert driver.table.next_deadline() == math.inf


def test_a_cancelled_waiter_is_forgotten_and_the_next_one_goes(driver: Driver) -> None:
    driver.granted("npu:0:0")
    cancelled, _ = driver.ask("npu:0:0-1", holder=2, wait=math.inf)
    behind, _ = driver.ask("npu:0:1", holder=3, wait=math.inf)
    (granted,) = driver.handle(Cancelled(cancelled))
    assert isinstance(granted, Granted)
    assert granted.request == behind


def test_several_files_are_granted_together_or_not_at_all(driver: Driver) -> None:
    driver.granted("npu:1:1")
    _, (refused,) = driver.ask("warboy(1)*4", holder=2)
    assert isinstance(refused, Refused)
    assert len(driver.table.leases) == 1
    assert len(driver.granted("warboy(1)*3", holder=2).files) == 3


def test_draining_refuses_waiters_and_newcomers(driver: Driver) -> None:
    driver.granted("npu:0")
    waiting, _ = driver.ask("npu:0", holder=2, wait=math.inf)
    (refused,) = driver.handle(Draining())
    assert refused == Refused(waiting, DeviceSpec.parse("npu:0"), ShuttingDown())
    newcomer, effects = driver.ask("npu:1", holder=3)
    assert effects == (Refused(newcomer, DeviceSpec.parse("npu:1"), ShuttingDown()),)


def test_a_holder_that_goes_while_it_waits_is_told_so(driver: Driver) -> None:
    driver.granted("npu:0")
    waiting, _ = driver.ask("npu:0", holder=2, wait=math.inf)
    (refused,) = driver.handle(HolderGone(2, "died"))
    assert refused == Refused(waiting, DeviceSpec.parse("npu:0"), NoLongerWanted())


def test_events_about_unknown_leases_change_nothing(driver: Driver) -> None:
    for event in (Released("nope", ""), Quiesced("nope"), Cancelled(99), HolderGone(99, "")):
        assert driver.handle(event) == ()


def test_a_granted_lease_does_not_end_by_quiescence_and_is_revoked_once(driver: Driver) -> None:
    lease = driver.granted("npu:0")
    assert driver.handle(Quiesced(lease.id)) == ()
    assert len(driver.handle(Released(lease.id, ""))) == 1
    assert driver.handle(Released(lease.id, "")) == ()
    assert driver.handle(HolderGone(lease.holder, "")) == ()


def test_every_state_has_its_row() -> None:
    assert set(TRANSITIONS) == set(LeaseState)
    assert TRANSITIONS[LeaseState.ENDED] == {}
