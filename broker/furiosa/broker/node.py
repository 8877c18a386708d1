"""The broker of one node, put together: every part, and who tells whom what.

`daemon` starts and stops it. Nothing here decides anything; this is where the parts get to know each
other.
"""

import functools
import logging
import os
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from furiosa.broker.arbiter import Arbiter, Workers
from furiosa.broker.audit import AuditLog
from furiosa.broker.card_reader import CardReader
from furiosa.broker.changes import Changes
from furiosa.broker.cordons import Cordons
from furiosa.broker.core_time import CoreTime
from furiosa.broker.dataplane import DataPlane
from furiosa.broker.deathwatch import DeathWatch
from furiosa.broker.devices import Foreign
from furiosa.broker.devices.look import Looker
from furiosa.broker.emulation import Emulation
from furiosa.broker.health import CardHealth, Crashes, HealthPolicy
from furiosa.broker.inventory import Inventory
from furiosa.broker.journal import Journal, Record, Sync
from furiosa.broker.lease import Card as LeaseCard
from furiosa.broker.lease import Policy, Pools, Rules
from furiosa.broker.log import event
from furiosa.broker.metrics import Gauges, Metrics
from furiosa.broker.monitor import Monitor, Told
from furiosa.broker.observers import AtTurnsEnd, Everybody
from furiosa.broker.platform import Faults, Ticker, VirtualPlatform
from furiosa.broker.recovery import Recovery
from furiosa.broker.reservations import Reserved
from furiosa.broker.rpc.admin_service import CORDON, AdminService
from furiosa.broker.rpc.admission import Admission
from furiosa.broker.rpc.device_service import DeviceService
from furiosa.broker.rpc.handoff import HandoffServer
from furiosa.broker.rpc.lease_service import LeaseService
from furiosa.broker.rpc.network import Network
from furiosa.broker.rpc.node_service import NodeService
from furiosa.broker.rpc.program_service import ProgramService
from furiosa.broker.rpc.reservation_service import ReservationService
from furiosa.broker.sessions import Session, Sessions
from furiosa.broker.settings import BrokerSettings
from furiosa.broker.startup import naming, share
from furiosa.broker.tenancy import Tenancy
from furiosa.broker.tenants.file import TenantsFile
from furiosa.broker.worker_settings import worker_settings
from furiosa.broker.workers.pool import Counters, WorkerPool
from furiosa.common.build import VERSION
from furiosa.common.names import DeviceFile
from furiosa.common.views import Availability, LeaseState, WorkerDiedNotice
from furiosa.common.wire import PROTOCOL_VERSION, origin_to_wire
from furiosa.proto.broker.v1 import handoff_pb2
from furiosa.sysfs import Card, discover

if TYPE_CHECKING:
    from furiosa.broker.rpc.methods import Method

log = logging.getLogger(__name__)

HEALTH: Final = "health"  # the role in which the monitor closes cards
COOLER_BY: Final = 10.0  # degrees below the limit that a hot card must have before it comes back


class Node:
    """Parts without sockets and processes; `start` is the daemon's. Raises: CannotStart."""

    def __init__(
        self,
        settings: BrokerSettings,
        on_sessions: Callable[[int], None],
        dropped_log_lines: Callable[[], int],
    ) -> None:
        self.settings = settings
        self.changes = Changes()
        with naming("the tenants file cannot be used"):
            self.tenants_file = TenantsFile(
                _path(settings.tenants),
                embedded=settings.embedded,
                on_change=lambda tenants: self._tenants_changed(),
                on_refusal=lambda cause: self.audit.record("tenants.refused", cause=cause),
            )
        self.tenancy = Tenancy(
            lambda: self.tenants_file.current,
            is_given=lambda session: self.reserved.access.is_given(session),
        )
        with naming("the audit log cannot be used"):
            self.audit = AuditLog(_path(settings.audit_log))
        self.journal = Journal(settings.state / "journal", sync=Sync(settings.journal_sync))
        with naming(f"the journal {settings.state / 'journal'} cannot be used"):
            self.recovered: tuple[Record, ...] = self.journal.recover()
        self.platform = self._platform()
        self.root = settings.root if self.platform is None else self.platform.folder
        cards = discover(self.root)
        self._lease_cards = tuple(map(_lease_card, cards))
        self.inventory = Inventory(
            self.root, cards, self._availability, lambda: self.reserved.keeper.files
        )
        event(
            log,
            "broker.devices",
            files=",".join(map(str, self.inventory.files)) or "none",
            root=self.root,
        )
        self.sessions = Sessions(self._session_opened, self._session_gone, on_sessions)
        self.deaths = DeathWatch(self._process_died)
        self.crashes = Crashes()
        self.core_time = CoreTime(self._cores_of)
        with naming("workers cannot be started"):
            self.pool = WorkerPool(worker_settings(settings), on_death=self._worker_died)
        self.metrics = Metrics(
            Gauges(
                leases=self._lease_gauges,
                waiting=lambda: (view.tenant for view in self.arbiter.queue()),
                devices=lambda: self.inventory.devices(self.arbiter.book.leases()),
                core_seconds=self.core_time.seconds,
                sessions=lambda: len(self.sessions),
                journal_bytes=lambda: self.journal.size,
                dropped_log_lines=dropped_log_lines,
                card_errors=lambda: self.inventory.errors,
            )
        )
        self._observer = AtTurnsEnd(Everybody(self.audit, self.metrics))
        rules = Rules(Policy(settings.placement), settings.aging, settings.recall_grace)
        self.arbiter = Arbiter(
            Pools(self._lease_cards, lambda: secrets.token_hex(6), rules),
            self.journal,
            Workers(self._stop_workers, self.pool.detach_queues),
            self._observer,
            clock=time.monotonic,
            changes=self.changes,
        )
        self.ticker: Ticker | None = None
        self.emulation: Emulation | None = None
        if self.platform is not None:
            self.ticker = Ticker(
                self.platform, self.measure, errors=self.pool.errors, faults=self._faults
            )
            self.emulation = Emulation(self.pool, self.platform.files, self._show_faults)
        self.cordons = Cordons(settings.state / "cordons.json", self._cordoned)
        for npu, reason in self.cordons.reasons.items():
            self._cordoned(npu, reason)
        with naming("reservations cannot be kept"):
            self.reserved = Reserved(
                settings.state,
                self.arbiter,
                lambda: self.inventory.files,
                self.audit.record,
                containers_need_grants=settings.containers == "granted",
            )
        self.recovery = Recovery(self.arbiter, self.deaths, settings.reconnect_grace)
        self.programs = ProgramService(
            self.arbiter.book,
            self.pool,
            self.tenancy,
            max_program_bytes=settings.max_program_bytes,
            max_arena_bytes=settings.max_arena_bytes,
        )
        self.monitor = self._monitor()
        refresh = None if self.ticker is None else self.ticker.tick
        reader = CardReader(self.root, self.inventory, refresh)
        self.methods: Mapping[str, Method] = {
            **DeviceService(
                self.inventory,
                self.arbiter.book,
                reader.counters,
                reader.inspect,
                self.changes,
            ).methods,
            **LeaseService(
                self.arbiter,
                self.sessions,
                self.tenancy,
                self.reserved.access,
                self.changes,
                self._observer.refused,
                max_linger=settings.max_linger,
            ).methods,
            **AdminService(
                self.arbiter,
                self.tenancy,
                self.tenants_file,
                self.cordons,
                self.audit.record,
                self.emulation,
                recall_grace=settings.recall_grace,
            ).methods,
            **self.programs.methods,
            **ReservationService(
                self.reserved.keeper,
                self.reserved.access,
                self.tenancy,
                self.reserved.grant_files.folder,
                settings.socket,
            ).methods,
        }
        with naming("TCP cannot be listened on"):
            self.network = Network(
                settings.listen,
                settings.data_listen,
                settings.tls_cert,
                settings.tls_key,
                settings.tls_client_ca,
            )
        self.admission = Admission()
        self.data_plane = self._data_plane()
        nodes = NodeService(self.arbiter.book, self.root, self.inventory)
        self.handoff = HandoffServer(
            {**self.methods, **self.programs.handoff_methods, **nodes.methods},
            self.sessions,
            self.deaths,
            self.welcome,
        )

    def reload(self) -> None:
        """The tenants file is read soon, and the audit log opened anew, as after logrotate."""
        self.tenants_file.ask()
        self.audit.reopen()

    def recover(self) -> None:
        """Take over the leases from before; the sessions that were handed over are there already."""
        present = {session.owner.key for session in self.sessions}
        self.recovery.adopt(self.recovered, present.__contains__)

    def welcome(self, session: Session) -> handoff_pb2.Welcome:
        return handoff_pb2.Welcome(
            protocol_version=PROTOCOL_VERSION,
            broker_version=VERSION.version,
            session_token=session.token,
            grpc_target=f"unix:{self.settings.socket}",
            data_target="" if self.data_plane is None else self.data_plane.target,
            origin=origin_to_wire(self.inventory.origin),
        )

    def measure(self) -> Mapping[DeviceFile, Counters | None]:
        """What the workers of leased files have measured by now."""
        measured = {file: self.pool.counters(file) for file, _ in self.arbiter.book.held_files()}
        for file, counters in measured.items():
            self.core_time.note(file, counters)
        return measured

    def tell_that_workers_end(self, cause: str) -> None:
        """Clients load their programs again when they hear it."""
        for lease_id, file in self.pool.running():
            if session := self.arbiter.book.session_of(lease_id):
                session.notify(WorkerDiedNotice(lease_id, file, cause))

    def close(self) -> None:
        self.recovery.close()
        self.leave_records()

    def leave_records(self) -> None:
        """Whatever there was to write down is written."""
        self._observer.tell()
        self.journal.close()
        self.audit.close()

    def remote_welcome(self, session: Session) -> handoff_pb2.Welcome:
        """For one who came by TCP, to whom sockets of this machine mean nothing."""
        welcome = self.welcome(session)
        welcome.grpc_target = ""
        welcome.data_target = self.network.data_target if welcome.data_target else ""
        return welcome

    # Who tells whom

    def _tenants_changed(self) -> None:
        self.audit.record("tenants.reloaded")
        self.network.recheck()

    def _session_opened(self, session: Session) -> None:
        self.reserved.access.opened(session)
        self.arbiter.session_opened(session)

    def _session_gone(self, session: Session, cause: str) -> None:
        self.arbiter.session_gone(session, cause)

    def _process_died(self, key: int) -> None:
        self.handoff.owner_died(key)
        self.recovery.died(key)

    def _worker_died(self, lease_id: str, file: DeviceFile, cause: str) -> None:
        event(log, "worker.died", logging.WARNING, lease=lease_id, device=file, cause=cause)
        self.metrics.worker_died(file)
        self.crashes.note(file.npu, lease_id, time.monotonic())
        if session := self.arbiter.book.session_of(lease_id):
            session.notify(WorkerDiedNotice(lease_id, file, cause))

    def _stop_workers(self, lease_id: str, stopped: Callable[[], None]) -> None:
        for file in self.arbiter.book.files_of(lease_id):
            self.core_time.ended(file, self.pool.counters(file))
        self.pool.release(lease_id, stopped)

    def _cards_changed(self, cards: tuple[Card, ...]) -> None:
        found = tuple(map(_lease_card, cards))
        if found != self._lease_cards:  # the first look finds what the start found
            self._lease_cards = found
            self.reserved.grant_files.offer(file for card in cards for file in card.device_files)
            self.arbiter.set_cards(found, self.settings.recall_grace)

    def _cordoned(self, npu: int, reason: str | None) -> None:
        self.arbiter.set_closed(npu, CORDON, reason, None)

    def _card_judged(self, npu: int, reason: str | None) -> None:
        self.arbiter.set_closed(npu, HEALTH, reason, self.settings.recall_grace)

    def _foreign_held(self, held: Foreign) -> None:
        self.arbiter.set_foreign(held)

    # What they ask

    def _availability(self, npu: int) -> tuple[Availability, str]:
        closed = self.arbiter.book.closed(npu)
        if HEALTH in closed:
            return Availability.UNAVAILABLE, closed[HEALTH]
        if CORDON in closed:
            return Availability.CORDONED, closed[CORDON]
        return Availability.AVAILABLE, ""

    async def _show_faults(self) -> None:
        assert self.ticker is not None
        await self.ticker.tick()
        self.monitor.look_soon()

    def _faults(self) -> Faults:
        return Faults() if self.emulation is None else self.emulation.faults

    def _owners(self) -> Mapping[DeviceFile, Collection[int]]:
        owners: dict[DeviceFile, set[int]] = {}
        for file, pid in self.arbiter.book.held_files():
            owners.setdefault(file, set()).add(pid)
        return owners

    def _cores_of(self, file: DeviceFile) -> tuple[int, ...]:
        for card in self.inventory.cards:
            if card.index == file.npu:
                return tuple(core for core in card.cores if core in file.cores)
        return ()

    def _lease_gauges(self) -> list[tuple[str, LeaseState, int]]:
        return [
            (lease.tenant, lease.state, sum(len(self._cores_of(f)) for f in lease.device_files))
            for lease in self.arbiter.book.leases()
        ]

    # What they are made of

    def _platform(self) -> VirtualPlatform | None:
        if self.settings.emulate == 0:
            return None
        platform = VirtualPlatform(self.settings.state / "devices", self.settings.emulate)
        with naming("the virtual cards cannot be written"):
            platform.write()
        return platform

    def _monitor(self) -> Monitor:
        limit = self.settings.max_celsius
        policy = HealthPolicy(
            over_millicelsius=round(limit * 1000),
            under_millicelsius=round((limit - COOLER_BY) * 1000),
            recovery_seconds=self.settings.health_recovery,
        )
        own = os.getpid()
        return Monitor(
            Looker(self.root, lambda: {own}),
            self.inventory,
            CardHealth(policy),
            Told(self._cards_changed, self._card_judged, self._foreign_held),
            owners=self._owners,
            looping=lambda npu: self.crashes.looping(npu, time.monotonic()),
        )

    def _data_plane(self) -> DataPlane | None:
        settings = self.settings
        if (path := settings.data_socket) is None:
            return None
        return DataPlane(
            path,
            settings.mode,
            settings.worker_user,
            functools.partial(share, settings),
            self.sessions,
            self.arbiter.book,
            self.programs,
            arguments=self.network.data_arguments,
            inherited=self.network.inherited,
        )


def _lease_card(card: Card) -> LeaseCard:
    return LeaseCard(card.index, len(card.cores), card.device_files)


def _path(text: str) -> Path | None:
    return Path(text) if text else None
