"""The life of a lease as data: states, events, effects, and the table of transitions.

Two rules. A transition that is not in the table changes nothing. A core is free only when its lease
has ENDED: REVOKING lasts until the workers that ran on it are gone, whatever made them stop.
"""

import math
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from furiosa.broker.lease.cards import Card
from furiosa.common.names import DeviceFile
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import LeaseState

NOBODY: Final = 0  # the holder of a lease whose connection is gone


class Claim(Struct, frozen=True):
    """In whose name a request is made, and what that tenant may have. None: no limit.

    `pool`: the cores set aside that it is about; empty: those of everybody.
    """

    tenant: str
    weight: float = 1.0
    cards: frozenset[int] | None = None
    max_cores: int | None = None
    max_waiting: int | None = None
    may_preempt: bool = False
    pool: str = ""


class Terms(Struct, frozen=True):
    """Durations in seconds; None: the lease never expires. A `linger` of 0 ends it with its connection."""

    time_to_live: float | None = None
    linger: float = 0.0


UNTIL_RELEASED: Final = Terms()


class Lease(Struct, frozen=True):
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


class Requested(Struct, frozen=True):
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


class Cancelled(Struct, frozen=True):
    """The requester wants no answer any more."""

    request: int


class Elapsed(Struct, frozen=True):
    """Time has passed; deadlines may have."""


class Released(Struct, frozen=True):
    """Its owner, or somebody for him, wants it to end now."""

    lease: str
    cause: str


class Renewed(Struct, frozen=True):
    """Its time to live starts anew; None: as long as before."""

    lease: str
    time_to_live: float | None


class Handed(Struct, frozen=True):
    """It belongs to another session from now on."""

    lease: str
    holder: int


class Recalled(Struct, frozen=True):
    """It is wanted back: its owner has `grace` seconds."""

    lease: str
    cause: str
    grace: float


class HolderGone(Struct, frozen=True):
    """The session ended: its process died, or it hung up."""

    holder: int
    cause: str


class Quiesced(Struct, frozen=True):
    """The workers of a lease have stopped."""

    lease: str


class Draining(Struct, frozen=True):
    """Nothing is granted from now on."""


class CardsChanged(Struct, frozen=True):
    """What cards there are: plugged in, pulled out."""

    cards: tuple[Card, ...]
    grace: float  # seconds, for leases on cards that have gone


class Closed(Struct, frozen=True):
    """Nothing of card `npu` is granted as long as there is a reason in this role; None: any more.

    `grace`: the leases on it are recalled; None: they stay.
    """

    npu: int
    role: str  # "cordon" or "health": two may close a card independently
    reason: str | None
    grace: float | None = None


class ForeignHeld(Struct, frozen=True):
    """The files that are open without a lease; replaces what was said before."""

    files: frozenset[DeviceFile]


class SetAside(Struct, frozen=True):
    """`files` are not for everybody, those of `pools` for whom a pool is; replaces what was said before.

    Nobody outside of it has a lease on what comes into a pool.
    """

    files: frozenset[DeviceFile]
    pools: Mapping[str, tuple[DeviceFile, ...]]


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
PoolsEvent = Event | SetAside


# What happens to one lease; some of the events above, and these, which the table finds out


class Left(Struct, frozen=True):
    """Its holder is gone, and it does not linger."""

    cause: str


class Detached(Struct, frozen=True):
    """Its holder is gone; it lingers."""

    cause: str


class Expired(Struct, frozen=True):
    """Its time to live is over."""


class GraceOver(Struct, frozen=True):
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


class Busy(Struct, frozen=True):
    """`file` of lease `lease` is in the way; None when only earlier waiters are.

    A file without a lease is held behind the broker's back.
    """

    lease: str | None
    file: DeviceFile | None


class Shut(Struct, frozen=True):
    """Card `npu` is closed."""

    npu: int
    reason: str


class Quota(Struct, frozen=True):
    """The tenant has, or would have, `value` of what it may have `maximum`."""

    limit: str
    value: int
    maximum: int


class Unknown(Struct, frozen=True):
    """No such devices, however long one waits."""


class Forbidden(Struct, frozen=True):
    """There are such devices, but not for this tenant."""


class ShuttingDown(Struct, frozen=True):
    pass


class NoLongerWanted(Struct, frozen=True):
    """Its holder is gone."""


Obstacle = Busy | Shut | Quota
Refusal = Obstacle | Unknown | Forbidden | ShuttingDown | NoLongerWanted

# Effects


class Granted(Struct, frozen=True):
    """`waited` in seconds."""

    request: int
    lease: Lease
    waited: float


class Refused(Struct, frozen=True):
    request: int
    spec: DeviceSpec
    refusal: Refusal


class Queued(Struct, frozen=True):
    """It has joined the queue."""

    request: int


class Changed(Struct, frozen=True):
    """What is written down about the lease has changed: its state, holder or term."""

    before: Lease
    lease: Lease


class StopWorkers(Struct, frozen=True):
    """The lease is REVOKING: stop what runs on its files, then say Quiesced."""

    lease: Lease


class Ended(Struct, frozen=True):
    """`held` in seconds."""

    lease: Lease
    held: float


Effect = Granted | Refused | Queued | Changed | StopWorkers | Ended
