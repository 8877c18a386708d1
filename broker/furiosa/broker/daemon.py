"""The composition root of furiosa-brokerd: builds all parts, runs them in one task group, ends them.

Order matters twice. Clients are let in only when everything behind the sockets works; and on the way
out nothing is granted any more, owners get their grace, workers end, and only then the sockets close.
"""

import asyncio
import contextlib
import fcntl
import functools
import importlib.metadata
import logging
import os
import resource
import secrets
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from furiosa.broker.arbiter import Arbiter
from furiosa.broker.changes import Changes
from furiosa.broker.dataplane import DataPlane
from furiosa.broker.deathwatch import DeathWatch
from furiosa.broker.devices import CounterReading, discover, read_counters
from furiosa.broker.inventory import Inventory
from furiosa.broker.journal import Journal
from furiosa.broker.lease import LeaseTable
from furiosa.broker.log import event, set_up
from furiosa.broker.platform import VirtualPlatform
from furiosa.broker.rpc.device_service import DeviceService
from furiosa.broker.rpc.handoff import PROTOCOL_VERSION, HandoffServer
from furiosa.broker.rpc.lease_service import LeaseService
from furiosa.broker.rpc.program_service import ProgramService
from furiosa.broker.rpc.server import GrpcServer
from furiosa.broker.sessions import Session, Sessions
from furiosa.broker.settings import BadSettings, BrokerSettings
from furiosa.broker.workers.pool import WorkerPool, WorkerSettings
from furiosa.common.names import DeviceFile
from furiosa.common.views import WorkerDiedNotice
from furiosa.common.wire import origin_to_wire
from furiosa.proto.broker.v1 import handoff_pb2

log = logging.getLogger(__name__)

LEAVING_SECONDS: Final = 2.0  # to wait for another embedded broker to be gone
TICK_SECONDS: Final = 1.0  # how often the virtual cards' counters and sensors move on their own


class CannotStart(Exception):
    """The text is for the person who started the daemon."""


class _Left(Exception):
    """Ends the root task group in order: everything in it is cancelled and waited for."""


@dataclass(slots=True)
class IdleTimer:
    """Calls `leave` when there has been no session for `seconds`; 0 never does."""

    seconds: float
    leave: asyncio.Event
    _handle: asyncio.TimerHandle | None = None

    def sessions(self, count: int) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if count == 0 and self.seconds > 0:
            loop = asyncio.get_running_loop()
            self._handle = loop.call_later(self.seconds, self.leave.set)


async def serve(settings: BrokerSettings) -> None:
    """Run the broker until SIGTERM, SIGINT, or for too long nobody came.

    Raises: CannotStart, before any client was let in.
    """
    leave = asyncio.Event()
    _on_signals(leave)
    _take_all_descriptors()
    if settings.ready_fd >= 0:
        with _naming("--ready-fd"):
            os.fstat(settings.ready_fd)
    changes = Changes()
    journal = _recovered(settings.state / "journal")
    platform = _platform(settings)
    root = settings.root if platform is None else platform.folder
    inventory = Inventory(root, discover(root))
    event(log, "broker.devices", files=",".join(map(str, inventory.files)) or "none", root=root)

    idle = IdleTimer(settings.idle_exit, leave)
    sessions = Sessions(lambda session, cause: arbiter.holder_gone(session, cause), idle.sessions)
    deaths = DeathWatch(lambda key: handoff.owner_died(key))

    def worker_died(lease_id: str, file: DeviceFile, cause: str) -> None:
        event(log, "worker.died", logging.WARNING, lease=lease_id, device=file, cause=cause)
        if session := arbiter.session_of(lease_id):
            session.notify(WorkerDiedNotice(lease_id, file, cause))

    with _naming("workers cannot be started"):
        pool = WorkerPool(
            WorkerSettings(user=settings.worker_user, load_timeout=settings.load_timeout),
            on_death=worker_died,
        )
    table = LeaseTable(inventory.files, lambda: secrets.token_hex(6))
    arbiter = Arbiter(table, journal, pool.release, clock=time.monotonic, changes=changes)
    programs = ProgramService(
        arbiter,
        pool,
        max_program_bytes=settings.max_program_bytes,
        max_arena_bytes=settings.max_arena_bytes,
    )

    def tick() -> None:
        """Bring what the virtual cards show in step with what their workers did."""
        if platform is not None:
            files = [file for lease in arbiter.leases() for file in lease.device_files]
            try:
                platform.tick({file: pool.counters(file) for file in files})
            except OSError as exc:  # e.g. a full disk: old sensor values hurt nobody
                event(log, "platform.not_written", logging.ERROR, cause=exc)

    def counters(file: DeviceFile) -> CounterReading | None:
        tick()
        return read_counters(root, file)

    methods = {
        **DeviceService(inventory, arbiter, counters, changes).methods,
        **LeaseService(arbiter, changes).methods,
        **programs.methods,
    }

    def welcome(session: Session) -> handoff_pb2.Welcome:
        return handoff_pb2.Welcome(
            protocol_version=PROTOCOL_VERSION,
            broker_version=importlib.metadata.version("furiosa-broker"),
            session_token=session.token,
            grpc_target=f"unix:{settings.socket}",
            data_target="" if data_plane is None else data_plane.target,
            origin=origin_to_wire(inventory.origin),
        )

    grpc = GrpcServer(methods, sessions)
    handoff = HandoffServer({**methods, **programs.handoff_methods}, sessions, deaths, welcome)
    mode = 0o600 if settings.embedded else settings.socket_mode
    share = functools.partial(_share, settings)
    data_plane: DataPlane | None = None
    if (path := settings.data_socket) is not None:
        data_plane = DataPlane(path, mode, settings.worker_user, share, sessions, arbiter, programs)

    async with contextlib.AsyncExitStack() as stack:
        stack.callback(journal.close)
        with _naming("workers cannot be started"):
            await stack.enter_async_context(_running(pool))
        await stack.enter_async_context(_running(deaths))
        with _naming(f"cannot listen on {settings.socket}"):
            await grpc.start(settings.socket, mode)
            stack.push_async_callback(grpc.stop, 0.5)
        with _naming(f"cannot listen on {settings.handoff_socket}"):
            listener = stack.enter_context(handoff.listening(settings.handoff_socket, mode))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(handoff.serve(listener))
                group.create_task(_every(TICK_SECONDS, tick))
                if data_plane is not None:
                    group.create_task(data_plane.run())
                    await data_plane.wait_ready()
                share(settings.socket)
                share(settings.handoff_socket)
                idle.sessions(0)
                _say_ready(settings.ready_fd)
                event(log, "broker.ready", socket=settings.socket, pid=os.getpid())
                await leave.wait()
                event(log, "broker.draining", leases=len(arbiter.leases()))
                await arbiter.drain(settings.drain_grace)
                raise _Left
        except* _Left:
            pass
    event(log, "broker.stopped")


@contextlib.asynccontextmanager
async def _running(part: WorkerPool | DeathWatch) -> AsyncIterator[None]:
    await part.start()
    try:
        yield
    finally:
        await part.stop()


async def _every(seconds: float, do: Callable[[], None]) -> None:
    while True:
        do()
        await asyncio.sleep(seconds)


def _on_signals(leave: asyncio.Event) -> None:
    def asked_to_leave() -> None:
        if leave.is_set():
            os._exit(130)  # asked twice: the kernel takes our workers along, the journal is whole
        leave.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_leave)


def _take_all_descriptors() -> None:
    """As many as we may have: each client costs some, and the usual 1,024 is for programs that select."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def _naming(failure: str) -> Iterator[None]:
    """What keeps the broker from starting is told in one line, not as a defect."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as exc:
        raise CannotStart(f"{failure}: {exc}") from None


def _recovered(path: Path) -> Journal:
    journal = Journal(path)
    with _naming(f"the journal {path} cannot be used"):
        lost = journal.recover()
    for record in lost:
        # its worker was killed by the kernel together with the broker that wrote this
        devices = ",".join(record.devices)
        event(log, "lease.lost", lease=record.lease, device=devices, pid=record.pid)
    return journal


def _platform(settings: BrokerSettings) -> VirtualPlatform | None:
    if settings.emulate == 0:
        return None
    platform = VirtualPlatform(settings.state / "devices", settings.emulate)
    with _naming("the virtual cards cannot be written"):
        platform.write()
    return platform


def _share(settings: BrokerSettings, socket: Path) -> None:
    """Give a socket to the group whose members may use NPU devices, if there is one."""
    if os.geteuid() == 0 and not settings.embedded:
        with contextlib.suppress(LookupError):
            shutil.chown(socket, group=settings.socket_group)


def _say_ready(fd: int) -> None:
    if fd >= 0:
        with contextlib.suppress(BrokenPipeError):  # who asked has gone; others may come
            os.write(fd, b"READY\n")
        os.close(fd)


@contextlib.contextmanager
def _only_one(settings: BrokerSettings) -> Iterator[None]:
    """Hold the lock that belongs to the socket: two brokers must never arbitrate the same cores."""
    try:
        settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings.socket.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        fd = os.open(f"{settings.socket}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise CannotStart(str(exc)) from None
    try:
        # one that leaves because it was idle may still be stopping its workers
        deadline = time.monotonic() + (LEAVING_SECONDS if settings.embedded else 0.0)
        while not _locked(fd):
            if time.monotonic() >= deadline:
                raise CannotStart(f"another broker is running on {settings.socket}")
            time.sleep(0.05)
        yield
    finally:
        os.close(fd)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 after an orderly stop, 1 when it cannot start, 2 for bad settings."""
    try:
        given = sys.argv[1:] if arguments is None else arguments
        settings = BrokerSettings.load(given, os.environ)
    except BadSettings as exc:
        sys.stderr.write(f"furiosa-brokerd: {exc}\n")
        return 2
    set_up(settings.log_level)
    try:
        with _only_one(settings):
            asyncio.run(serve(settings))
    except CannotStart as exc:
        sys.stderr.write(f"furiosa-brokerd: {exc}\n")
        return 1
    return 0
