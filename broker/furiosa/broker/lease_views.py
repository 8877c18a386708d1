"""Leases and waiters as clients see them: wall-clock times, owners, reasons in words."""

import math

from furiosa.broker.grants import Grants
from furiosa.broker.journal import now
from furiosa.broker.lease import Lease, QueuePlace
from furiosa.broker.refusals import Refusals
from furiosa.broker.sessions import Session
from furiosa.common.clock import Clock
from furiosa.common.views import LeaseView, WaiterView


class LeaseViews:
    def __init__(self, grants: Grants, refusals: Refusals, clock: Clock) -> None:
        self._grants = grants
        self._refusals = refusals
        self._clock = clock

    def lease(self, lease: Lease) -> LeaseView:
        grant = self._grants[lease.id]
        return LeaseView(
            id=lease.id,
            device_files=lease.files,
            state=lease.state,
            owner=grant.view,
            granted_at=grant.granted_at,
            tenant=lease.tenant,
            priority=lease.priority,
            ends_at=self._wall(lease.ends_at),
            cause=lease.cause,
        )

    def waiter(self, place: QueuePlace, session: Session, since: float) -> WaiterView:
        requested = place.waiter.requested
        return WaiterView(
            position=place.position,
            device_spec=str(requested.spec),
            tenant=requested.claim.tenant,
            priority=requested.priority,
            owner=session.owner.view,
            since=since,
            deadline=None if requested.deadline is None else self._wall(requested.deadline),
            reason=self._refusals.reason(place.obstacle),
            session=session.id,
        )

    def _wall(self, time: float) -> float | None:
        return None if math.isinf(time) else now() + time - self._clock()
