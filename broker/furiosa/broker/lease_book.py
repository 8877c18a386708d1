"""What is known of the leases, to look up: nothing here changes one."""

from typing import Final

from furiosa.broker.grants import Grant, Grants
from furiosa.broker.lease import Lease, Pools
from furiosa.broker.lease.states import USABLE
from furiosa.broker.lease_views import LeaseViews
from furiosa.broker.sessions import Session
from furiosa.common.errors import LeaseEnded, NotLeaseOwner, UnknownLease
from furiosa.common.names import DeviceFile
from furiosa.common.views import LeaseView

MAX_ENDED: Final = 1024  # causes of ended leases that are remembered for late callers


class LeaseBook:
    """Over the arbiter's table and grants. For the event loop's thread."""

    def __init__(self, table: Pools, grants: Grants, views: LeaseViews) -> None:
        self._table = table
        self._grants = grants
        self._views = views
        self._causes: dict[str, str] = {}  # of leases that have ended

    def leases(self) -> tuple[LeaseView, ...]:
        return tuple(map(self._views.lease, self._table.leases))

    def view(self, lease_id: str) -> LeaseView:
        """Raises: UnknownLease, LeaseEnded."""
        _, lease = self.find(lease_id)
        return self._views.lease(lease)

    def held_files(self) -> tuple[tuple[DeviceFile, int], ...]:
        """Every leased file, with the pid of its owner."""
        return tuple(
            (file, self._grants[lease.id].owner.pid)
            for lease in self._table.leases
            for file in lease.files
        )

    def files_of(self, lease_id: str) -> tuple[DeviceFile, ...]:
        lease = self._table.get(lease_id)
        return () if lease is None else lease.files

    def leases_on(self, npu: int) -> tuple[str, ...]:
        return tuple(lease.id for lease in self._table.leases_on(npu))

    def pool_of(self, lease_id: str) -> str:
        """The pool that the lease is of."""
        return self._table.pool_of(lease_id)

    def has_card(self, npu: int) -> bool:
        return self._table.has_card(npu)

    def closed(self, npu: int) -> dict[str, str]:
        """Why nothing of the card is granted, by role; empty when it is open."""
        return self._table.closed(npu)

    def lease_of(self, session: Session, lease_id: str) -> Lease:
        """The lease, when `session` may use it.

        Raises: UnknownLease, NotLeaseOwner, LeaseEnded (also while it is being revoked).
        """
        grant, lease = self.find(lease_id)
        if grant.owner.key != session.owner.key:
            raise NotLeaseOwner(lease_id, session.owner.pid)
        if lease.state not in USABLE:
            raise LeaseEnded(lease_id, lease.cause)
        return lease

    def session_of(self, lease_id: str) -> Session | None:
        grant = self._grants.get(lease_id)
        return None if grant is None else grant.session

    def find(self, lease_id: str) -> tuple[Grant, Lease]:
        """Raises: UnknownLease; LeaseEnded, with its cause, as long as that is remembered."""
        grant, lease = self._grants.get(lease_id), self._table.get(lease_id)
        if grant is None or lease is None:
            if lease_id in self._causes:
                raise LeaseEnded(lease_id, self._causes[lease_id])
            raise UnknownLease(lease_id)
        return grant, lease

    def remember(self, ended: Lease) -> None:
        """Why it ended, for who asks for it later."""
        self._causes[ended.id] = ended.cause
        while len(self._causes) > MAX_ENDED:
            del self._causes[next(iter(self._causes))]
