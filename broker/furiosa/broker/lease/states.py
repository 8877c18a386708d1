"""The life of a lease as data: states, events, effects, and the table of transitions.

Two rules. A transition that is not in the table changes nothing. A core is free only when its lease
has ENDED: REVOKING lasts until the workers that ran on it are gone, whatever made them stop.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from furiosa.broker.lease.cards import Card
from furiosa.common.names import DeviceFile
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import LeaseState

NOBODY: Final = 0  # the holder of a lease whose connection is gone


@dataclass(frozen=True, slots=True)
class Claim:
    """In whose name a request is made, and what that tenant may have. None: no limit."""

    tenant: str
    weight: float = 1.0
    cards: frozenset[int] | None = None
    max_cores: int | None = None
    max_waiting: int | None = None
    may_preempt: bool = False


@dataclass(frozen=True, slots=True)
class Terms:
    """Durations in seconds; None: the lease never expires. A `linger` of 0 ends it with its connection."""

    time_to_live: float | None = None
    linger: float = 0.0


UNTIL_RELEASED: Final = Terms()


@dataclass(frozen=True, slots=True)
class Lease:
    """`holder` is the session it belongs to: a key, opaque here. Times are the clock's seconds.

    `expires_at` is when its time to live is over, `ends_at` when its state ends by itself; inf: never.
    `cause` says why it is no longer GRANTED.
    """

    id: str
    holder: int
    files: tuple[DeviceFile, ...]
    state: LeaseState
    tenant: str = ""
    priority: int = 0
    terms: Terms = UNTIL_RELEASED
    granted_at: float = 0.0
    expires_at: float = math.inf
    ends_at: float = math.inf
    cause: str = ""
    cores: int = 0


# Events


@dataclass(frozen=True, slots=True)
class Requested:
    """`deadline` in the clock's seconds: None refuses at once what is busy, inf waits for ever.

    `waited`: seconds that it has waited already, in a broker before this one.
    """

    request: int
    holder: int
    spec: DeviceSpec
    deadline: float | None
    claim: Claim = Claim("")
    priority: int = 0
    terms: Terms = UNTIL_RELEASED
    waited: float = 0.0


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The requester wants no answer any more."""

    request: int


@dataclass(frozen=True, slots=True)
class Elapsed:
    """Time has passed; deadlines may have."""


@dataclass(frozen=True, slots=True)
class Released:
    """Its owner, or somebody for him, wants it to end now."""

    lease: str
    cause: str


@dataclass(frozen=True, slots=True)
class Renewed:
    """Its time to live starts anew; None: as long as before."""

    lease: str
    time_to_live: float | None


@dataclass(frozen=True, slots=True)
class Handed:
    """It belongs to another session from now on."""

    lease: str
    holder: int


@dataclass(frozen=True, slots=True)
class Recalled:
    """It is wanted back: its owner has `grace` seconds."""

    lease: str
    cause: str
    grace: float


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


@dataclass(frozen=True, slots=True)
class CardsChanged:
    """What cards there are: plugged in, pulled out."""

    cards: tuple[Card, ...]
    grace: float  # seconds, for leases on cards that have gone


@dataclass(frozen=True, slots=True)
class Closed:
    """Nothing of card `npu` is granted as long as there is a reason in this role; None: any more.

    `grace`: the leases on it are recalled; None: they stay.
    """

    npu: int
    role: str  # "cordon" or "health": two may close a card independently
    reason: str | None
    grace: float | None = None


@dataclass(frozen=True, slots=True)
class ForeignHeld:
    """The files that are open without a lease; replaces what was said before."""

    files: frozenset[DeviceFile]


Event = (
    Requested
    | Cancelled
    | Elapsed
    | Released
    | Renewed
    | Handed
    | Recalled
    | HolderGone
    | Quiesced
    | Draining
    | CardsChanged
    | Closed
    | ForeignHeld
)


# What happens to one lease; some of the events above, and these, which the table finds out


@dataclass(frozen=True, slots=True)
class Left:
    """Its holder is gone, and it does not linger."""

    cause: str


@dataclass(frozen=True, slots=True)
class Detached:
    """Its holder is gone; it lingers."""

    cause: str


@dataclass(frozen=True, slots=True)
class Expired:
    """Its time to live is over."""


@dataclass(frozen=True, slots=True)
class GraceOver:
    """`ends_at` has passed."""


_S = LeaseState

TRANSITIONS: Final[Mapping[LeaseState, Mapping[type, LeaseState]]] = {
    _S.GRANTED: {
        Renewed: _S.GRANTED,
        Handed: _S.GRANTED,
        Detached: _S.DETACHED,
        Expired: _S.EXPIRING,
        Recalled: _S.RECALLED,
        Released: _S.REVOKING,
        Left: _S.REVOKING,
    },
    _S.DETACHED: {  # nobody is there to be told
        Handed: _S.GRANTED,
        Expired: _S.REVOKING,
        Recalled: _S.REVOKING,
        Released: _S.REVOKING,
        Left: _S.REVOKING,
        GraceOver: _S.REVOKING,
    },
    _S.EXPIRING: {
        Renewed: _S.GRANTED,
        Handed: _S.EXPIRING,
        Recalled: _S.RECALLED,
        Released: _S.REVOKING,
        Left: _S.REVOKING,
        Detached: _S.REVOKING,
        GraceOver: _S.REVOKING,
    },
    _S.RECALLED: {
        Handed: _S.RECALLED,
        Recalled: _S.RECALLED,
        Released: _S.REVOKING,
        Left: _S.REVOKING,
        Detached: _S.REVOKING,
        GraceOver: _S.REVOKING,
    },
    _S.REVOKING: {Quiesced: _S.ENDED},
    _S.ENDED: {},
}

USABLE: Final = frozenset({_S.GRANTED, _S.EXPIRING, _S.RECALLED})  # by its holder
HELD_BACK: Final = frozenset({_S.EXPIRING, _S.RECALLED})  # its holder is asked to let go


# Why a request was refused, or waits


@dataclass(frozen=True, slots=True)
class Busy:
    """`file` of lease `lease` is in the way; None when only earlier waiters are.

    A file without a lease is held behind the broker's back.
    """

    lease: str | None
    file: DeviceFile | None


@dataclass(frozen=True, slots=True)
class Shut:
    """Card `npu` is closed."""

    npu: int
    reason: str


@dataclass(frozen=True, slots=True)
class Quota:
    """The tenant has, or would have, `value` of what it may have `maximum`."""

    limit: str
    value: int
    maximum: int


@dataclass(frozen=True, slots=True)
class Unknown:
    """No such devices, however long one waits."""


@dataclass(frozen=True, slots=True)
class Forbidden:
    """There are such devices, but not for this tenant."""


@dataclass(frozen=True, slots=True)
class ShuttingDown:
    pass


@dataclass(frozen=True, slots=True)
class NoLongerWanted:
    """Its holder is gone."""


Obstacle = Busy | Shut | Quota
Refusal = Obstacle | Unknown | Forbidden | ShuttingDown | NoLongerWanted

# Effects


@dataclass(frozen=True, slots=True)
class Granted:
    """`waited` in seconds."""

    request: int
    lease: Lease
    waited: float


@dataclass(frozen=True, slots=True)
class Refused:
    request: int
    spec: DeviceSpec
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Queued:
    """It has joined the queue."""

    request: int


@dataclass(frozen=True, slots=True)
class Changed:
    """What is written down about the lease has changed: its state, holder or term."""

    before: Lease
    lease: Lease


@dataclass(frozen=True, slots=True)
class StopWorkers:
    """The lease is REVOKING: stop what runs on its files, then say Quiesced."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Ended:
    """`held` in seconds."""

    lease: Lease
    held: float


Effect = Granted | Refused | Queued | Changed | StopWorkers | Ended
