"""Cores set aside for a few, beside those of everybody."""

import itertools
import random

import pytest

from furiosa.broker.lease import Claim, Pools, PoolsEvent
from furiosa.broker.lease.states import (
    Busy,
    CardsChanged,
    Closed,
    Draining,
    Elapsed,
    ForeignHeld,
    Granted,
    Quiesced,
    Refused,
    Released,
    Requested,
    SetAside,
    Shut,
    ShuttingDown,
    StopWorkers,
    Terms,
    Unknown,
)
from furiosa.common.names import DeviceFile
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import LeaseState
from support.lease_tables import Driver, card, served, stopped

POD = Claim("pod:a", pool="a")
OTHER = Claim("pod:b", pool="b")


def aside(**pools: str) -> SetAside:
    """Files by pool, blanks between them; those of `open` are in no pool."""
    parsed = {pool: tuple(map(DeviceFile.parse, text.split())) for pool, text in pools.items()}
    files = frozenset(file for found in parsed.values() for file in found)
    return SetAside(files, {pool: found for pool, found in parsed.items() if pool != "open"})


def test_what_is_set_aside_is_nobodys_and_who_wants_it_waits_for_it() -> None:
    table = Driver()
    table.handle(aside(open="npu0pe0"))
    assert table.refusal("npu0pe0") == Busy(None, DeviceFile.parse("npu0pe0"))
    assert table.refusal("npu0") == Busy(None, DeviceFile.parse("npu0pe0"))
    assert str(table.grant("npu0pe1").files[0]) == "npu0pe1"
    waiting = table.wait("npu0pe0")
    assert served(table.handle(aside())) == [waiting]


def test_a_pool_has_its_cores_and_no_others() -> None:
    table = Driver()
    table.handle(aside(a="npu0pe0", b="npu1pe0-1"))
    assert table.refusal("npu0pe1", POD) == Unknown()
    assert table.refusal("npu0pe0", OTHER) == Unknown()
    assert table.refusal("warboy(1)*2", POD) == Unknown()
    assert [str(f) for f in table.grant("warboy(1)*1", POD).files] == ["npu0pe0"]
    assert [str(f) for f in table.grant("warboy(1)*2", OTHER).files] == ["npu1pe0", "npu1pe1"]


def test_whoever_waits_in_a_pool_is_served_by_it_alone() -> None:
    table = Driver()
    table.handle(aside(a="npu0pe0"))
    held = table.grant("npu0pe0", POD)
    waiting = table.wait("warboy(1)*1", POD)
    everybodys = table.grant("npu1pe0")
    assert table.end(everybodys) == []
    assert table.waiting() == [waiting]
    assert table.end(held) == [waiting]


def test_a_lease_is_of_the_pool_it_came_from() -> None:
    table = Driver()
    table.handle(aside(a="npu0pe0"))
    assert table.table.pool_of(table.grant("npu0pe0", POD).id) == "a"
    assert table.table.pool_of(table.grant("npu0pe1").id) == ""


def test_a_pool_that_grows_keeps_its_leases() -> None:
    table = Driver()
    table.handle(aside(a="npu0pe0"))
    held = table.grant("npu0pe0", POD)
    table.handle(aside(a="npu0pe0 npu0pe1"))
    assert table.state(held) is LeaseState.GRANTED
    assert table.refusal("npu0pe0-1", POD) == Busy(held.id, DeviceFile.parse("npu0pe0"))
    assert table.grant("npu0pe1", POD).state is LeaseState.GRANTED


def test_a_pool_that_ends_takes_its_leases_and_its_waiters_along() -> None:
    table = Driver()
    table.handle(aside(a="npu0pe0"))
    held = table.grant("npu0pe0", POD)
    waiting = table.wait("npu0pe0", POD)
    effects = table.handle(aside())
    assert [e.request for e in effects if isinstance(e, Refused)] == [waiting]
    assert stopped(table.handle(Elapsed())) == [held.id]
    table.handle(Quiesced(held.id))
    assert (table.table.leases, table.waiting()) == ((), [])


@pytest.mark.parametrize("first", ["closed", "aside"])
def test_a_closed_card_is_closed_in_every_pool(first: str) -> None:
    table = Driver()
    events: list[PoolsEvent] = [Closed(0, "cordon", "why"), aside(a="npu0pe0")]
    for event in events if first == "closed" else reversed(events):
        table.handle(event)
    assert table.refusal("npu0pe0", POD) == Shut(0, "why")
    table.handle(Closed(0, "cordon", None))
    assert table.grant("npu0pe0", POD)


def test_what_strangers_hold_is_held_in_a_pool_too() -> None:
    table = Driver()
    held = DeviceFile.parse("npu0pe0")
    table.handle(ForeignHeld(frozenset({held})))
    table.handle(aside(a="npu0pe0"))
    assert table.refusal("npu0pe0", POD) == Busy(None, held)
    table.handle(ForeignHeld(frozenset()))
    assert table.grant("npu0pe0", POD)


def test_a_pool_made_while_all_ends_grants_nothing() -> None:
    table = Driver()
    table.handle(Draining())
    table.handle(aside(a="npu0pe0"))
    assert table.refusal("npu0pe0", POD) == ShuttingDown()


def test_a_card_that_is_pulled_out_leaves_its_pool() -> None:
    table = Driver()
    table.handle(aside(a="npu0pe0 npu1pe0"))
    held = table.grant("npu1pe0", POD)
    table.handle(CardsChanged((card(0),), 5.0))
    assert table.state(held) is LeaseState.RECALLED
    assert table.refusal("npu1pe0", POD) == Unknown()
    assert table.grant("npu0pe0", POD)


def test_a_lease_from_before_comes_back_to_its_pool_and_to_no_other() -> None:
    before = Driver()
    before.handle(aside(a="npu0pe0"))
    lease = before.grant("npu0pe0", POD)
    for pools, adopted in (
        ({"a": "npu0pe0 npu0pe1"}, "a"),
        ({"open": "npu0pe0-1"}, None),
        ({"b": "npu1pe0"}, ""),
    ):
        after = Driver()
        after.handle(aside(**pools))
        assert after.table.adopt(lease, 1.0, 0.0) is (adopted is not None)
        after.table.check()
        if adopted is not None:
            assert after.table.pool_of(lease.id) == adopted


@pytest.mark.parametrize("seed", range(30))
def test_no_core_ever_has_two_owners(seed: int) -> None:
    """Requests, ends and reservations in any order; a core changes pools only when nobody has it."""
    draw, ids, requests = random.Random(seed), itertools.count(), itertools.count()
    cards = [card(npu) for npu in range(3)]
    cores = [f"npu{npu}pe{core}" for npu in range(3) for core in range(2)]
    table = Pools(cards, lambda: f"l{next(ids)}")
    homes = dict.fromkeys(cores, "")
    stopping: set[str] = set()
    for now in range(300):
        match draw.randrange(5):
            case 0:
                core, pool = draw.choice(cores), draw.choice(["", "a", "b"])
                file = DeviceFile.parse(core)
                if any(f.overlaps(file) for lease in table.leases for f in lease.files):
                    continue
                homes[core] = pool
                kinds = {p: " ".join(c for c in cores if homes[c] == p) for p in ("a", "b")}
                event = aside(**{p: text for p, text in kinds.items() if text})
                effects = table.handle(event, now=now)
            case 1 | 2:
                spec = draw.choice([*cores, "npu0pe0-1", "npu1", "warboy(1)*1", "warboy(2)*1"])
                pool = draw.choice(["", *{homes[core] for core in cores}])
                deadline = draw.choice([None, now + 20.0])
                claim = Claim(f"t{pool}", pool=pool)
                request = Requested(
                    next(requests), 1, DeviceSpec.parse(spec), deadline, claim, 0, Terms()
                )
                effects = table.handle(request, now=now)
            case 3:
                leases = [lease.id for lease in table.leases]
                chosen = draw.choice(leases) if leases else "none"
                effects = table.handle(Released(chosen, "done"), now=now)
            case _:
                gone = draw.choice(sorted(stopping)) if stopping else "none"
                stopping.discard(gone)
                effects = table.handle(Quiesced(gone), now=now)
        effects += table.handle(Elapsed(), now=now)
        stopping |= {e.lease.id for e in effects if isinstance(e, StopWorkers)}
        for effect in effects:
            if isinstance(effect, Granted):
                mine = [DeviceFile.parse(c) for c in cores if homes[c] == effect.lease.tenant[1:]]
                covered = [f for f in mine if any(f.overlaps(g) for g in effect.lease.files)]
                assert len(covered) == effect.lease.cores, effect
        table.check()
