"""Leases from before: those of processes that still live are taken over, the others are over.

Until its owner resumes it a lease is DETACHED, and his pidfd is watched here: when he dies his cores are
free at once. The workers of the broker before were killed by the kernel together with it.
"""

import logging
from collections.abc import Callable, Iterable

from furiosa.broker.arbiter import Arbiter
from furiosa.broker.deathwatch import DeathWatch
from furiosa.broker.journal import Record
from furiosa.broker.log import event
from furiosa.broker.owners import Owner, find

log = logging.getLogger(__name__)


class Recovery:
    """`grace`: seconds that owners have to connect again."""

    def __init__(self, arbiter: Arbiter, deaths: DeathWatch, grace: float) -> None:
        self._arbiter = arbiter
        self._deaths = deaths
        self._grace = grace
        self._missing: dict[int, Owner] = {}  # by key: who has not come back yet

    def adopt(self, records: Iterable[Record], present: Callable[[int], bool]) -> None:
        """`present(key)`: whether the process has a session already."""
        for record in records:
            lease, key = record.lease, record.owner.key
            owner = None if present(key) or key in self._missing else find(record.owner)
            lives = owner is not None or key in self._missing or present(key)
            lingers = bool(record.secret)  # for whoever knows the secret
            if (lives or lingers) and self._arbiter.adopt(
                record, self._grace if lives else 0.0, None if owner is None else owner.view
            ):
                if owner is not None:
                    self._missing[key] = owner
                    self._deaths.watch(owner)
                continue
            if owner is not None:
                owner.close()
            devices = ",".join(map(str, lease.files))
            cause = "its cores are not free here" if lives else "its owner is gone"
            pid = record.owner.pid
            event(log, "lease.lost", lease=lease.id, device=devices, pid=pid, cause=cause)
            self._arbiter.forget(record)

    def died(self, key: int) -> None:
        self._drop(key)
        self._arbiter.process_died(key)

    def close(self) -> None:
        for key in tuple(self._missing):
            self._drop(key)

    def _drop(self, key: int) -> None:
        owner = self._missing.pop(key, None)
        if owner is not None:
            self._deaths.forget(owner)
            owner.close()
