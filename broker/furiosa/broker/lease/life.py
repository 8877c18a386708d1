"""One step of one lease along the table of transitions: what becomes of its terms, holder and cause."""

import math

from msgspec.structs import replace

from furiosa.broker.lease.states import (
    HELD_BACK,
    NOBODY,
    TRANSITIONS,
    Detached,
    Expired,
    Handed,
    Lease,
    Left,
    Recalled,
    Released,
    Renewed,
)
from furiosa.common.views import LeaseState


def moved(lease: Lease, event: object, now: float, recall_grace: float) -> Lease | None:
    """The lease after the event; None where the table has no such arrow."""
    state = TRANSITIONS[lease.state].get(type(event))
    if state is None:
        return None
    match event:
        case Renewed(_, ttl):
            terms = lease.terms if ttl is None else replace(lease.terms, time_to_live=ttl)
            ttl = terms.time_to_live
            expires = math.inf if ttl is None else now + ttl
            return replace(
                lease, state=state, terms=terms, expires_at=expires, ends_at=expires, cause=""
            )
        case Handed(_, holder):
            if state is LeaseState.GRANTED:
                ends = lease.expires_at
                return replace(lease, state=state, holder=holder, ends_at=ends, cause="")
            return replace(lease, holder=holder)
        case Detached(cause):
            ends = math.inf
            if state is LeaseState.DETACHED:
                ends = min(lease.expires_at, now + lease.terms.linger)
            return replace(lease, state=state, holder=NOBODY, ends_at=ends, cause=cause)
        case Expired():
            ends = now + recall_grace if state in HELD_BACK else math.inf
            return replace(lease, state=state, ends_at=ends, cause="its time to live is over")
        case Recalled(_, cause, grace):
            ends = now + grace if state in HELD_BACK else math.inf
            if lease.state in HELD_BACK:  # told once, it can only become more urgent
                ends = min(ends, lease.ends_at)
            if lease.state is LeaseState.RECALLED:
                cause = lease.cause
            return replace(lease, state=state, ends_at=ends, cause=cause)
        case Released(_, cause) | Left(cause):
            return replace(lease, state=state, ends_at=math.inf, cause=cause)
        case _:  # GraceOver
            return replace(lease, state=state, ends_at=math.inf)


def left_behind(lease: Lease, now: float, grace: float) -> Lease:
    """A lease from before a restart: its owner has `grace` seconds to come back for it, more if it lingers
    longer. A recall does not become less urgent by that.
    """
    ends = now + max(grace, lease.terms.linger)
    if lease.state in HELD_BACK:
        ends = min(ends, lease.ends_at)
    cause = "the broker was restarted"
    return replace(lease, holder=NOBODY, state=LeaseState.DETACHED, ends_at=ends, cause=cause)
