"""The life of a lease as data: states, events, effects, and the table of transitions.

Two rules. A transition that is not in the table changes nothing. A core is free only when its lease
has ENDED: REVOKING lasts until the workers that ran on it are gone, whatever made them stop.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from furiosa.common.names import DeviceFile
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import LeaseState


@dataclass(frozen=True, slots=True)
class Lease:
    """`holder` is the session it belongs to: a key, opaque here."""

    id: str
    holder: int
    files: tuple[DeviceFile, ...]
    state: LeaseState


# Events


@dataclass(frozen=True, slots=True)
class Requested:
    """`deadline` in the clock's seconds: None refuses at once what is busy, inf waits for ever."""

    request: int
    holder: int
    spec: DeviceSpec
    deadline: float | None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The requester wants no answer any more."""

    request: int


@dataclass(frozen=True, slots=True)
class Elapsed:
    """Time has passed; deadlines may have."""


@dataclass(frozen=True, slots=True)
class Released:
    lease: str
    cause: str


@dataclass(frozen=True, slots=True)
class HolderGone:
    """The session ended: its process died, or it hung up."""

    holder: int
    cause: str


@dataclass(frozen=True, slots=True)
class Quiesced:
    """The workers of a lease have stopped."""

    lease: str


@dataclass(frozen=True, slots=True)
class Draining:
    """Nothing is granted from now on."""


Event = Requested | Cancelled | Elapsed | Released | HolderGone | Quiesced | Draining

TRANSITIONS: Final[Mapping[LeaseState, Mapping[type[Event], LeaseState]]] = {
    LeaseState.GRANTED: {Released: LeaseState.REVOKING, HolderGone: LeaseState.REVOKING},
    LeaseState.REVOKING: {Quiesced: LeaseState.ENDED},
    LeaseState.ENDED: {},
}

# Why a request was refused


@dataclass(frozen=True, slots=True)
class Busy:
    """`file` of lease `lease` is in the way; None when only earlier waiters are."""

    lease: str | None
    file: DeviceFile | None


@dataclass(frozen=True, slots=True)
class Unknown:
    """No such devices, however long one waits."""


@dataclass(frozen=True, slots=True)
class ShuttingDown:
    pass


@dataclass(frozen=True, slots=True)
class NoLongerWanted:
    """Its holder is gone."""


Refusal = Busy | Unknown | ShuttingDown | NoLongerWanted

# Effects


@dataclass(frozen=True, slots=True)
class Granted:
    request: int
    lease: Lease


@dataclass(frozen=True, slots=True)
class Refused:
    request: int
    spec: DeviceSpec
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class StopWorkers:
    """The lease is REVOKING: stop what runs on its files, then say Quiesced."""

    lease: Lease
    cause: str


@dataclass(frozen=True, slots=True)
class Ended:
    lease: Lease


Effect = Granted | Refused | StopWorkers | Ended
