"""What the arbiter did, for those who only watch: the log, the audit trail, the metrics."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, Protocol

from furiosa.broker.audit import AuditLog, who
from furiosa.broker.grants import Grant
from furiosa.broker.lease import Lease
from furiosa.broker.lease.states import NOBODY
from furiosa.broker.log import event
from furiosa.broker.metrics import Metrics
from furiosa.broker.sessions import Session
from furiosa.common.errors import FuriosaError
from furiosa.common.selector import DeviceSpec
from furiosa.common.status import reason_of
from furiosa.common.views import LeaseState

log = logging.getLogger(__name__)


class Observer(Protocol):
    """Durations in seconds. None of these may raise, or take long."""

    def granted(self, lease: Lease, grant: Grant, waited: float) -> None: ...
    def refused(
        self, session: Session, spec: DeviceSpec, tenant: str, error: FuriosaError
    ) -> None: ...
    def changed(self, before: Lease, lease: Lease, grant: Grant) -> None: ...
    def ended(self, lease: Lease, grant: Grant, held: float) -> None: ...
    def adopted(self, lease: Lease, grant: Grant) -> None: ...
    def journal_failed(self, lease_id: str, cause: OSError) -> None: ...
    def journal_synced(self, seconds: float) -> None: ...


class Log:
    """One line an event."""

    def granted(self, lease: Lease, grant: Grant, waited: float) -> None:
        event(
            log,
            "lease.granted",
            lease=lease.id,
            device=_devices(lease),
            pid=grant.owner.pid,
            tenant=lease.tenant,
            waited=f"{waited:.3f}",
        )

    def refused(self, session: Session, spec: DeviceSpec, tenant: str, error: FuriosaError) -> None:
        event(
            log,
            "lease.refused",
            spec=spec,
            pid=session.owner.pid,
            tenant=tenant,
            reason=reason_of(type(error)),
            cause=error,
        )

    def changed(self, before: Lease, lease: Lease, grant: Grant) -> None:
        level = logging.DEBUG if before.state is lease.state else logging.INFO
        pid = grant.owner.pid
        event(log, _change(before, lease), level, lease=lease.id, pid=pid, cause=lease.cause)

    def ended(self, lease: Lease, grant: Grant, held: float) -> None:
        event(
            log,
            "lease.ended",
            lease=lease.id,
            device=_devices(lease),
            pid=grant.owner.pid,
            held=f"{held:.3f}",
            cause=lease.cause,
        )

    def adopted(self, lease: Lease, grant: Grant) -> None:
        device, pid = _devices(lease), grant.owner.pid
        event(log, "lease.adopted", lease=lease.id, device=device, pid=pid, state=lease.state.value)

    def journal_failed(self, lease_id: str, cause: OSError) -> None:
        event(log, "journal.failed", logging.ERROR, lease=lease_id, cause=cause)

    def journal_synced(self, seconds: float) -> None:
        event(log, "journal.synced", logging.DEBUG, seconds=f"{seconds:.6f}")


class Everybody(Log):
    """The log, and the audit trail and the metrics with it."""

    def __init__(self, audit: AuditLog, metrics: Metrics) -> None:
        self._audit = audit
        self._metrics = metrics

    def granted(self, lease: Lease, grant: Grant, waited: float) -> None:
        super().granted(lease, grant, waited)
        self._metrics.granted(lease.tenant, waited)
        if self._audit.is_kept:
            self._audit.record("lease.granted", **_facts(lease, grant), waited=round(waited, 6))

    def refused(self, session: Session, spec: DeviceSpec, tenant: str, error: FuriosaError) -> None:
        super().refused(session, spec, tenant, error)
        reason = reason_of(type(error))
        self._metrics.refused(reason)
        self._audit.record(
            "lease.refused",
            **who(session.owner.view),
            tenant=tenant,
            spec=str(spec),
            reason=reason,
            cause=str(error),
        )

    def changed(self, before: Lease, lease: Lease, grant: Grant) -> None:
        super().changed(before, lease, grant)
        if before.state is not lease.state or before.holder != lease.holder:
            self._audit.record(_change(before, lease), **_facts(lease, grant), cause=lease.cause)

    def ended(self, lease: Lease, grant: Grant, held: float) -> None:
        super().ended(lease, grant, held)
        self._metrics.ended(_class_of(lease.cause), held)
        if self._audit.is_kept:
            facts = _facts(lease, grant)
            self._audit.record("lease.ended", **facts, cause=lease.cause, held=round(held, 6))

    def adopted(self, lease: Lease, grant: Grant) -> None:
        super().adopted(lease, grant)
        self._audit.record("lease.adopted", **_facts(lease, grant))

    def journal_synced(self, seconds: float) -> None:
        self._metrics.journal_synced(seconds)


class AtTurnsEnd:
    """Tells `observer` all that happened in a turn of the event loop at its end, when answers are on
    their way: nobody waits for what is only watched. In the order in which it happened.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._untold: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def granted(self, lease: Lease, grant: Grant, waited: float) -> None:
        self._later(self._observer.granted, lease, grant, waited)

    def refused(self, session: Session, spec: DeviceSpec, tenant: str, error: FuriosaError) -> None:
        self._later(self._observer.refused, session, spec, tenant, error)

    def changed(self, before: Lease, lease: Lease, grant: Grant) -> None:
        self._later(self._observer.changed, before, lease, grant)

    def ended(self, lease: Lease, grant: Grant, held: float) -> None:
        self._later(self._observer.ended, lease, grant, held)

    def adopted(self, lease: Lease, grant: Grant) -> None:
        self._later(self._observer.adopted, lease, grant)

    def journal_failed(self, lease_id: str, cause: OSError) -> None:
        self._later(self._observer.journal_failed, lease_id, cause)

    def journal_synced(self, seconds: float) -> None:
        self._later(self._observer.journal_synced, seconds)

    def tell(self) -> None:
        """What it has not been told yet, now: for the last turn of all."""
        untold, self._untold = self._untold, []
        for told, facts in untold:
            told(*facts)

    def _later(self, told: Callable[..., None], *facts: Any) -> None:
        if not self._untold:
            asyncio.get_running_loop().call_soon(self.tell)
        self._untold.append((told, facts))


_CLASSES: Final = (  # how a cause begins, and what it counts as
    ("released", "released"),
    ("the request was cancelled", "released"),
    ("its owner asked", "released"),
    ("its process", "died"),
    ("its owner", "died"),
    ("its connection", "disconnected"),
    ("the broker was restarted", "disconnected"),
    ("the broker", "shutdown"),
    ("its time", "expired"),
    ("revoked", "revoked"),
    ("preempted", "preempted"),
    ("npu", "device"),
)


def _change(before: Lease, lease: Lease) -> str:
    """`lease.granted` is said once of a lease, by the grant."""
    if lease.holder not in (NOBODY, before.holder):
        return "lease.resumed" if before.holder == NOBODY else "lease.handed"
    return "lease.renewed" if lease.state is LeaseState.GRANTED else f"lease.{lease.state.value}"


def _class_of(cause: str) -> str:
    return next((name for start, name in _CLASSES if cause.startswith(start)), "other")


def _facts(lease: Lease, grant: Grant) -> dict[str, object]:
    devices = [str(file) for file in lease.files]
    return {**who(grant.view), "tenant": lease.tenant, "lease": lease.id, "devices": devices}


def _devices(lease: Lease) -> str:
    return ",".join(map(str, lease.files))
