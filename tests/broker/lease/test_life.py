"""Every arrow of the table of transitions, and every arrow that is not there."""

import itertools
import math

import pytest
from msgspec.structs import replace

from furiosa.broker.lease import Lease, Terms
from furiosa.broker.lease.life import moved
from furiosa.broker.lease.states import (
    HELD_BACK,
    NOBODY,
    TRANSITIONS,
    USABLE,
    Detached,
    Expired,
    GraceOver,
    Handed,
    Left,
    Quiesced,
    Recalled,
    Released,
    Renewed,
)
from furiosa.common.names import DeviceFile
from furiosa.common.views import LeaseState

GRANTED, DETACHED = LeaseState.GRANTED, LeaseState.DETACHED
EXPIRING, RECALLED = LeaseState.EXPIRING, LeaseState.RECALLED
REVOKING, ENDED = LeaseState.REVOKING, LeaseState.ENDED

NOW, GRACE = 100.0, 10.0
EVENTS = {
    type(event): event
    for event in (
        Renewed("l", None),
        Handed("l", 2),
        Detached("hung up"),
        Expired(),
        Recalled("l", "wanted", 3.0),
        Released("l", "bye"),
        Left("died"),
        GraceOver(),
        Quiesced("l"),
    )
}
# Written out once more by hand: a change of the table must be meant.
ARROWS = {
    GRANTED: "Renewed:GRANTED Handed:GRANTED Detached:DETACHED Expired:EXPIRING Recalled:RECALLED"
    " Released:REVOKING Left:REVOKING",
    DETACHED: "Handed:GRANTED Expired:REVOKING Recalled:REVOKING Released:REVOKING Left:REVOKING"
    " GraceOver:REVOKING",
    EXPIRING: "Renewed:GRANTED Handed:EXPIRING Recalled:RECALLED Released:REVOKING Left:REVOKING"
    " Detached:REVOKING GraceOver:REVOKING",
    RECALLED: "Handed:RECALLED Recalled:RECALLED Released:REVOKING Left:REVOKING Detached:REVOKING"
    " GraceOver:REVOKING",
    REVOKING: "Quiesced:ENDED",
    ENDED: "",
}
PAIRS = list(itertools.product(LeaseState, EVENTS))


def lease(state: LeaseState = GRANTED, *, ttl: float | None = 60.0, linger: float = 5.0) -> Lease:
    """Granted at 90, and in its state since 95."""
    expires = math.inf if ttl is None else 90.0 + ttl
    ends = {GRANTED: expires, DETACHED: 100.0, EXPIRING: 105.0, RECALLED: 105.0}
    return Lease(
        id="l",
        holder=NOBODY if state is DETACHED else 1,
        files=(DeviceFile.parse("npu0pe0"),),
        state=state,
        terms=Terms(ttl, linger),
        granted_at=90.0,
        expires_at=expires,
        ends_at=ends.get(state, math.inf),
        cause="" if state is GRANTED else "before",
        cores=1,
    )


def after(before: Lease, event: object) -> Lease:
    result = moved(before, event, NOW, GRACE)
    assert result is not None
    return result


def arrows(state: LeaseState) -> dict[str, str]:
    return dict(arrow.split(":") for arrow in ARROWS[state].split())


def test_every_state_has_its_row_and_the_last_one_has_no_way_out() -> None:
    assert set(TRANSITIONS) == set(LeaseState)
    assert TRANSITIONS[ENDED] == {}


def test_these_events_are_all_there_are() -> None:
    assert {event for row in TRANSITIONS.values() for event in row} == set(EVENTS)


@pytest.mark.parametrize(
    ("state", "event"), PAIRS, ids=[f"{s.name}-{e.__name__}" for s, e in PAIRS]
)
def test_an_arrow_leads_where_the_table_says_and_where_there_is_none_nothing_changes(
    state: LeaseState, event: type
) -> None:
    result = moved(lease(state), EVENTS[event], NOW, GRACE)
    assert (None if result is None else result.state.name) == arrows(state).get(event.__name__)


@pytest.mark.parametrize(
    ("state", "event"), PAIRS, ids=[f"{s.name}-{e.__name__}" for s, e in PAIRS]
)
def test_what_a_lease_is_on_never_changes(state: LeaseState, event: type) -> None:
    before = lease(state)
    result = moved(before, EVENTS[event], NOW, GRACE)
    if result is not None:
        kept = ("id", "files", "tenant", "priority", "granted_at", "cores")
        assert [getattr(result, name) for name in kept] == [getattr(before, name) for name in kept]


@pytest.mark.parametrize("event", [Released("l", "bye"), Left("bye"), Recalled("l", "bye", 1.0)])
def test_no_state_but_the_last_is_without_a_way_to_the_end(event: object) -> None:
    for state in LeaseState:
        steps = [state]
        while (row := TRANSITIONS[steps[-1]]) and len(steps) < 6:
            steps.append(row.get(type(event)) or row.get(GraceOver) or row[Quiesced])
            event = Left("and then it left")
        assert steps[-1] is ENDED


def test_only_a_revoked_lease_can_end() -> None:
    assert [state for state, row in TRANSITIONS.items() if ENDED in row.values()] == [REVOKING]
    assert set(TRANSITIONS[REVOKING]) == {Quiesced}


def test_who_may_use_it_and_who_is_asked_to_let_go() -> None:
    assert {GRANTED, EXPIRING, RECALLED} == USABLE
    assert {EXPIRING, RECALLED} == HELD_BACK


# When states end


@pytest.mark.parametrize("state", [GRANTED, EXPIRING])
def test_renewing_starts_the_term_anew(state: LeaseState) -> None:
    renewed = after(lease(state), Renewed("l", None))
    assert (renewed.expires_at, renewed.ends_at, renewed.cause) == (NOW + 60, NOW + 60, "")


@pytest.mark.parametrize("state", [GRANTED, EXPIRING])
def test_renewing_may_change_the_length_of_the_term(state: LeaseState) -> None:
    renewed = after(lease(state, ttl=None if state is GRANTED else 60.0), Renewed("l", 7.0))
    assert (renewed.expires_at, renewed.ends_at, renewed.terms) == (107, 107, Terms(7.0, 5.0))
    assert after(renewed, Renewed("l", None)).expires_at == NOW + 7


def test_renewing_what_never_expires_changes_nothing() -> None:
    assert after(lease(ttl=None), Renewed("l", None)) == lease(ttl=None)


def test_an_expired_lease_has_the_grace_of_the_rules() -> None:
    expiring = after(lease(), Expired())
    assert (expiring.ends_at, expiring.cause) == (NOW + GRACE, "its time to live is over")
    assert expiring.expires_at == lease().expires_at


def test_a_recalled_lease_has_the_grace_of_the_recall() -> None:
    recalled = after(lease(), Recalled("l", "wanted", 3.0))
    assert (recalled.ends_at, recalled.cause) == (NOW + 3, "wanted")


@pytest.mark.parametrize("state", [EXPIRING, RECALLED])
@pytest.mark.parametrize(("grace", "ends"), [(3.0, NOW + 3), (3000.0, 105.0)])
def test_recalling_again_can_only_make_it_more_urgent(
    state: LeaseState, grace: float, ends: float
) -> None:
    assert after(lease(state), Recalled("l", "again", grace)).ends_at == ends


def test_the_first_recall_is_the_cause() -> None:
    first = after(lease(EXPIRING), Recalled("l", "first", 9.0))
    assert first.cause == "first"
    assert after(first, Recalled("l", "second", 1.0)).cause == "first"


@pytest.mark.parametrize(
    ("ttl", "linger", "ends"),
    [(60.0, 5.0, NOW + 5), (12.0, 5.0, 102.0), (None, 5.0, NOW + 5), (12.0, math.inf, 102.0)],
)
def test_a_detached_lease_ends_when_it_has_lingered_or_its_time_to_live_is_over(
    ttl: float | None, linger: float, ends: float
) -> None:
    detached = after(lease(ttl=ttl, linger=linger), Detached("hung up"))
    assert (detached.ends_at, detached.holder, detached.cause) == (ends, NOBODY, "hung up")


def test_a_detached_lease_that_is_taken_up_again_has_its_old_term() -> None:
    resumed = after(lease(DETACHED), Handed("l", 9))
    assert (resumed.holder, resumed.ends_at, resumed.cause) == (9, 150.0, "")


@pytest.mark.parametrize("state", [EXPIRING, RECALLED])
def test_handing_over_wins_no_time(state: LeaseState) -> None:
    assert after(lease(state), Handed("l", 9)) == replace(lease(state), holder=9)


@pytest.mark.parametrize("event", [Released("l", "bye"), Left("bye")])
@pytest.mark.parametrize("state", [GRANTED, DETACHED, EXPIRING, RECALLED])
def test_who_ended_it_is_the_cause_and_workers_have_all_the_time_they_need(
    state: LeaseState, event: object
) -> None:
    revoking = after(lease(state), event)
    assert (revoking.state, revoking.cause, revoking.ends_at) == (REVOKING, "bye", math.inf)


@pytest.mark.parametrize("state", [DETACHED, EXPIRING, RECALLED])
def test_when_the_grace_is_over_the_cause_is_what_started_it(state: LeaseState) -> None:
    revoking = after(lease(state), GraceOver())
    assert (revoking.state, revoking.cause, revoking.ends_at) == (REVOKING, "before", math.inf)
