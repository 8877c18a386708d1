"""What a runtime has of its broker: phases, what happens to it, and which phase follows."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from furiosa.common.errors import FuriosaError
from furiosa.runtime._core.errors import SessionClosed
from furiosa.runtime._core.session import Closed, Ended, terminated


class OnBrokerRestart(Enum):
    RESUME = "resume"
    RAISE = "raise"


class LinkPhase(Enum):
    FREE = "free"  # there was no lease yet
    HELD = "held"
    RECALLED = "recalled"  # held, and wanted back for good: it is not resumed
    CUT = "cut"  # the broker has gone; who needs the lease next resumes it
    ENDED = "ended"  # nothing brings it back
    CLOSED = "closed"  # by its owner


class Taken:
    """The lease was granted, or resumed."""


class Recalled:
    """It will be taken away."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The broker has gone, or the connection to it."""

    cause: FuriosaError


Event = Taken | Recalled | Cut | Ended | Closed

_P = LinkPhase
_Table = Mapping[LinkPhase, Mapping[type[Event], LinkPhase]]

_RESUME: Final[_Table] = {
    _P.FREE: {Taken: _P.HELD, Closed: _P.CLOSED},
    _P.HELD: {Recalled: _P.RECALLED, Cut: _P.CUT, Ended: _P.ENDED, Closed: _P.CLOSED},
    _P.RECALLED: {Recalled: _P.RECALLED, Cut: _P.ENDED, Ended: _P.ENDED, Closed: _P.CLOSED},
    _P.CUT: {Taken: _P.HELD, Ended: _P.ENDED, Closed: _P.CLOSED},
    # News may come late and change nothing.
    _P.ENDED: {Recalled: _P.ENDED, Cut: _P.ENDED, Ended: _P.ENDED, Closed: _P.CLOSED},
    _P.CLOSED: {Closed: _P.CLOSED},
}

TRANSITIONS: Final[Mapping[OnBrokerRestart, _Table]] = {
    OnBrokerRestart.RESUME: _RESUME,
    OnBrokerRestart.RAISE: {**_RESUME, _P.HELD: {**_RESUME[_P.HELD], Cut: _P.ENDED}},
}


class Link:
    """The phase of one runtime. Callers hold its lock, but for `check`."""

    __slots__ = ("_table", "cause", "phase")

    def __init__(self, policy: OnBrokerRestart) -> None:
        self._table = TRANSITIONS[policy]
        self.phase = LinkPhase.FREE
        self.cause: FuriosaError | None = None  # of CUT and ENDED

    @property
    def held(self) -> bool:
        return self.phase is LinkPhase.HELD or self.phase is LinkPhase.RECALLED

    def handle(self, event: Event) -> LinkPhase:
        """The phase afterwards. Raises: KeyError, changing nothing, for what cannot happen now."""
        phase = self._table[self.phase][type(event)]
        if isinstance(event, Cut | Ended) and self.phase is not LinkPhase.ENDED:
            self.cause = event.cause
        self.phase = phase
        return phase

    def check(self) -> None:
        """Raises: SessionClosed or SessionTerminated when it will not be held any more."""
        if self.phase is LinkPhase.CLOSED:
            raise SessionClosed("the runtime is closed; create a new one")
        if self.phase is LinkPhase.ENDED:
            assert self.cause is not None
            raise terminated(self.cause)
