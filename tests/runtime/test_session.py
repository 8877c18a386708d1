import itertools

import pytest

from furiosa.common.errors import BrokerUnavailable, LeaseEnded
from furiosa.runtime._core.errors import SessionClosed, SessionTerminated
from furiosa.runtime._core.session import (
    TRANSITIONS,
    Closed,
    Ended,
    Event,
    Loaded,
    Lost,
    Phase,
    Session,
)

REVOKED = LeaseEnded("l", "revoked")
EVENTS: tuple[Event, ...] = (Loaded(), Lost(), Ended(REVOKED), Closed())
PATHS: dict[Phase, tuple[Event, ...]] = {
    Phase.UNLOADED: (),
    Phase.LOADED: (Loaded(),),
    Phase.ENDED: (Ended(REVOKED),),
    Phase.CLOSED: (Closed(),),
}


def session_in(phase: Phase) -> Session:
    session = Session()
    for event in PATHS[phase]:
        session.handle(event)
    return session


@pytest.mark.parametrize(("phase", "event"), list(itertools.product(Phase, EVENTS)))
def test_what_is_not_in_the_table_changes_nothing(phase: Phase, event: Event) -> None:
    session = session_in(phase)
    after = TRANSITIONS[phase].get(type(event))
    if after is None:
        with pytest.raises(KeyError):
            session.handle(event)
        assert session.phase is phase
    else:
        assert session.handle(event) is after
        assert session.phase is after


def test_a_loss_is_not_the_end() -> None:
    session = session_in(Phase.LOADED)
    assert session.handle(Lost()) is Phase.UNLOADED
    session.check()
    assert session.handle(Loaded()) is Phase.LOADED


@pytest.mark.parametrize("phase", [Phase.ENDED, Phase.CLOSED])
def test_nothing_is_loaded_after_the_end(phase: Phase) -> None:
    assert Loaded not in TRANSITIONS[phase]
    assert Phase.LOADED not in TRANSITIONS[phase].values()


def test_closed_is_final_and_says_so() -> None:
    session = session_in(Phase.CLOSED)
    assert session.handle(Ended(REVOKED)) is Phase.CLOSED
    with pytest.raises(SessionClosed, match=r"^the session is closed; create a new one$"):
        session.check()


def test_an_ended_session_names_the_first_cause() -> None:
    session = session_in(Phase.ENDED)
    session.handle(Ended(BrokerUnavailable("unix:/b", "it closed the connection")))
    with pytest.raises(SessionTerminated) as caught:
        session.check()
    assert str(caught.value) == "the session was terminated: lease l has ended: revoked"
    assert caught.value.__cause__ is REVOKED
