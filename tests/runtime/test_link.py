import itertools

import pytest

from furiosa.common.errors import BrokerUnavailable, LeaseEnded
from furiosa.runtime._core.errors import SessionClosed, SessionTerminated
from furiosa.runtime._core.link import (
    TRANSITIONS,
    Cut,
    Event,
    Link,
    LinkPhase,
    OnBrokerRestart,
    Recalled,
    Taken,
)
from furiosa.runtime._core.session import Closed, Ended

GONE = BrokerUnavailable("unix:/b", "it closed the connection")
REVOKED = LeaseEnded("l", "revoked")
EVENTS: tuple[Event, ...] = (Taken(), Recalled(), Cut(GONE), Ended(REVOKED), Closed())
PATHS: dict[LinkPhase, tuple[Event, ...]] = {
    LinkPhase.FREE: (),
    LinkPhase.HELD: (Taken(),),
    LinkPhase.RECALLED: (Taken(), Recalled()),
    LinkPhase.CUT: (Taken(), Cut(GONE)),
    LinkPhase.ENDED: (Taken(), Ended(REVOKED)),
    LinkPhase.CLOSED: (Closed(),),
}
RESUME, RAISE = OnBrokerRestart.RESUME, OnBrokerRestart.RAISE


def link_in(phase: LinkPhase, policy: OnBrokerRestart = RESUME) -> Link:
    link = Link(policy)
    for event in PATHS[phase]:
        link.handle(event)
    assert link.phase is phase
    return link


@pytest.mark.parametrize(("phase", "event"), list(itertools.product(LinkPhase, EVENTS)))
def test_what_is_not_in_the_table_changes_nothing(phase: LinkPhase, event: Event) -> None:
    link = link_in(phase)
    after = TRANSITIONS[RESUME][phase].get(type(event))
    if after is None:
        with pytest.raises(KeyError):
            link.handle(event)
        assert link.phase is phase
    else:
        assert link.handle(event) is link.phase is after


@pytest.mark.parametrize("phase", LinkPhase)
def test_it_can_be_closed_at_any_time_and_for_good(phase: LinkPhase) -> None:
    link = link_in(phase)
    assert link.handle(Closed()) is LinkPhase.CLOSED
    assert set(TRANSITIONS[RESUME][LinkPhase.CLOSED].values()) == {LinkPhase.CLOSED}
    with pytest.raises(SessionClosed, match=r"^the runtime is closed; create a new one$"):
        link.check()


def test_a_cut_is_mended_any_number_of_times() -> None:
    link = link_in(LinkPhase.HELD)
    for _ in range(3):
        assert link.handle(Cut(GONE)) is LinkPhase.CUT
        assert not link.held
        link.check()
        assert link.handle(Taken()) is LinkPhase.HELD
        assert link.held


def test_what_is_wanted_back_is_not_resumed() -> None:
    link = link_in(LinkPhase.RECALLED)
    assert link.held
    assert link.handle(Cut(GONE)) is LinkPhase.ENDED


def test_the_other_policy_knows_no_cut() -> None:
    link = link_in(LinkPhase.HELD, RAISE)
    assert link.handle(Cut(GONE)) is LinkPhase.ENDED
    assert all(LinkPhase.CUT not in arrows.values() for arrows in TRANSITIONS[RAISE].values())


def test_the_first_end_is_named() -> None:
    link = link_in(LinkPhase.CUT)
    link.handle(Ended(REVOKED))
    link.handle(Cut(GONE))
    with pytest.raises(SessionTerminated, match="lease l has ended: revoked") as caught:
        link.check()
    assert caught.value.__cause__ is REVOKED
