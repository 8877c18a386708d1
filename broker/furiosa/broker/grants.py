"""Who is behind each lease: the process, its session while it has one, and the secret to resume it."""

import hashlib
from collections.abc import Iterator
from typing import Literal, Self, cast

from msgspec import Struct
from msgspec.structs import replace

from furiosa.broker.journal import Record, now
from furiosa.broker.lease import Lease
from furiosa.broker.owners import ProcessMark
from furiosa.broker.sessions import Session
from furiosa.common.views import OwnerView


class Grant(Struct, frozen=True):
    """`session` is None while its connection is gone, and `view` what was last known of its owner.

    `secret` is a digest, empty for a lease that does not linger.
    """

    owner: ProcessMark
    last_view: OwnerView
    session: Session | None
    granted_at: float  # wall clock
    weight: float
    secret: str

    @classmethod
    def to(cls, session: Session, weight: float, secret: str) -> Self:
        owner = session.owner
        digest = cls.digest(secret) if secret else ""
        return cls(owner.mark, owner.view, session, now(), weight, digest)

    @staticmethod
    def digest(secret: str) -> str:
        return hashlib.sha256(secret.encode()).hexdigest()

    @property
    def view(self) -> OwnerView:
        return self.last_view if self.session is None else self.session.owner.view

    def record(self, event: str, lease: Lease) -> Record:
        kind = cast("Literal['granted', 'changed', 'ended']", event)
        return Record(kind, lease, self.owner, self.weight, self.granted_at, self.secret, now())


class Grants:
    """Those of the leases that have not ended, by lease id."""

    def __init__(self) -> None:
        self._grants: dict[str, Grant] = {}
        self._detached: dict[int, dict[str, None]] = {}  # by the key of the process that left them

    def __getitem__(self, lease_id: str) -> Grant:
        return self._grants[lease_id]

    def get(self, lease_id: str) -> Grant | None:
        return self._grants.get(lease_id)

    def add(self, lease_id: str, grant: Grant) -> None:
        self._grants[lease_id] = grant
        if grant.session is None:
            self._detached.setdefault(grant.owner.key, {})[lease_id] = None

    def hand(self, lease_id: str, session: Session) -> None:
        self._attach(lease_id)
        owner = session.owner
        self._grants[lease_id] = replace(
            self._grants[lease_id], owner=owner.mark, last_view=owner.view, session=session
        )

    def detach(self, lease_id: str) -> None:
        grant = self._grants[lease_id]
        self.add(lease_id, replace(grant, last_view=grant.view, session=None))

    def detached(self, key: int) -> Iterator[str]:
        """Leases that the process with this key left behind; a copy."""
        return iter(tuple(self._detached.get(key, ())))

    def remove(self, lease_id: str) -> None:
        self._attach(lease_id)
        del self._grants[lease_id]

    def _attach(self, lease_id: str) -> None:
        key = self._grants[lease_id].owner.key
        waiting = self._detached.get(key)
        if waiting is not None:
            waiting.pop(lease_id, None)
            if not waiting:
                del self._detached[key]
