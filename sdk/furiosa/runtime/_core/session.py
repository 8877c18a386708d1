"""Life of one runner: phases, what happens to it, and which phase follows."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from furiosa.common.errors import FuriosaError
from furiosa.runtime._core.errors import FuriosaRuntimeError, SessionClosed, SessionTerminated


class Phase(Enum):
    UNLOADED = (
        "unloaded"  # the lease is held, the program is on no device: not yet, or a worker died
    )
    LOADED = "loaded"
    ENDED = "ended"  # lease or broker is gone; nothing brings it back
    CLOSED = "closed"  # by its owner


class Loaded:
    """The program is on every device and its queues are open."""


class Lost:
    """A device lost the program, or its queue cannot be used any more; the lease stays."""


@dataclass(frozen=True, slots=True)
class Ended:
    cause: FuriosaError


class Closed:
    pass


Event = Loaded | Lost | Ended | Closed

TRANSITIONS: Final[Mapping[Phase, Mapping[type[Event], Phase]]] = {
    Phase.UNLOADED: {
        Loaded: Phase.LOADED,
        Lost: Phase.UNLOADED,
        Ended: Phase.ENDED,
        Closed: Phase.CLOSED,
    },
    Phase.LOADED: {Lost: Phase.UNLOADED, Ended: Phase.ENDED, Closed: Phase.CLOSED},
    # News may come late and change nothing; but nobody may load any more.
    Phase.ENDED: {Lost: Phase.ENDED, Ended: Phase.ENDED, Closed: Phase.CLOSED},
    Phase.CLOSED: {Lost: Phase.CLOSED, Ended: Phase.CLOSED, Closed: Phase.CLOSED},
}


class Session:
    """The phase of one runner. Callers hold the runner's lock."""

    __slots__ = ("_cause", "phase")

    def __init__(self) -> None:
        self.phase = Phase.UNLOADED
        self._cause: FuriosaError | None = None

    def handle(self, event: Event) -> Phase:
        """The phase afterwards. Raises: KeyError, changing nothing, for what cannot happen now."""
        phase = TRANSITIONS[self.phase][type(event)]
        if isinstance(event, Ended) and self._cause is None:
            self._cause = event.cause
        self.phase = phase
        return phase

    def check(self) -> None:
        """Raises: SessionClosed or SessionTerminated when nothing can be asked of it any more."""
        if self.phase is Phase.CLOSED:
            raise SessionClosed("the session is closed; create a new one")
        if self.phase is Phase.ENDED:
            assert self._cause is not None
            raise terminated(self._cause)


def terminated(cause: FuriosaError) -> FuriosaRuntimeError:
    error = SessionTerminated(f"the session was terminated: {cause}")
    error.__cause__ = cause
    return error
