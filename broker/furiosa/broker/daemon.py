"""furiosa-brokerd: starts the node's broker, lets clients in, and ends it or replaces it in order.

Order matters three times. Clients are let in only when everything behind the sockets works and the leases
from before are known. On the way out nothing is granted any more, owners get their grace, workers end, and
only then the sockets close. And when a successor takes over (SIGUSR2, or a restart by systemd with its
descriptor store) nobody is refused and no session ends.
"""

import asyncio
import contextlib
import dataclasses
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from socket import socket
from typing import Final

from furiosa.broker import handover, relay, succession, systemd, telemetry, unit
from furiosa.broker.deathwatch import DeathWatch
from furiosa.broker.handover import Handover
from furiosa.broker.log import event, set_up
from furiosa.broker.log_stream import LogStream
from furiosa.broker.node import Node
from furiosa.broker.rpc import handoff
from furiosa.broker.rpc.server import GrpcServer
from furiosa.broker.settings import BadSettings, BrokerSettings
from furiosa.broker.startup import (
    CannotStart,
    IdleTimer,
    naming,
    only_one,
    say_ready,
    share,
    take_all_descriptors,
)
from furiosa.broker.systemd import Notifier
from furiosa.broker.telemetry import Telemetry
from furiosa.broker.workers.pool import WorkerPool

log = logging.getLogger(__name__)

TICK_SECONDS: Final = 1.0  # how often the time is added up that cores were busy
GRPC_GRACE: Final = 0.5  # seconds that calls over gRPC have to end
GRPC_LAST_CALLS: Final = 0.2  # seconds for calls of those who were let in just before

# Names of descriptors in a handover; those of sockets are also the names in the systemd units.
GRPC: Final = "grpc"  # the public gRPC socket, where systemd listens for us
KEEPER: Final = "keeper"  # the same, where we do: it stands in for gRPC during a re-exec
HANDOFF: Final = "handoff"
LOCK: Final = "lock"


class _Left(Exception):
    """Ends the root task group in order: everything in it is cancelled and waited for."""


@dataclass(slots=True)
class _Wishes:
    """What somebody asked of the daemon by a signal."""

    any: asyncio.Event = field(default_factory=asyncio.Event)
    leave: bool = False
    replace: bool = False

    def on_leave(self) -> None:
        if self.leave:
            logging.shutdown()
            os._exit(130)  # asked twice: the kernel takes our workers along, the journal is whole
        self.leave = True
        self.any.set()

    def on_replace(self) -> None:
        self.replace = True
        self.any.set()


class Daemon:
    """One process's life. `lock` is held, and stays the caller's; `left` is from a broker before."""

    def __init__(
        self, settings: BrokerSettings, lines: LogStream, lock: int, left: Handover | None
    ) -> None:
        self._settings = settings
        self._lines = lines
        self._lock = lock
        self._from_exec = left
        self._wishes = _Wishes()
        self._relay: relay.Relay | None = None
        self._helpers: list[asyncio.Task[None]] = []  # with processes of their own

    async def serve(self) -> None:
        """Run the broker until SIGTERM, SIGINT, or for too long nobody came.

        Raises: CannotStart, before any client was let in.
        """
        settings, wishes = self._settings, self._wishes
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, wishes.on_leave)
        loop.add_signal_handler(signal.SIGUSR2, wishes.on_replace)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)  # until there is something to reload
        handover.release_signals()
        take_all_descriptors()
        if settings.ready_fd >= 0:
            with naming("--ready-fd"):
                os.fstat(settings.ready_fd)
        idle = IdleTimer(settings.idle_exit, wishes.on_leave)
        # first of all: when it cannot be made, systemd keeps the sessions for the next start
        self._node = node = Node(settings, idle.sessions, lambda: self._lines.dropped)
        with naming("what systemd handed over cannot be used"):
            self._notifier = Notifier.from_environment(os.environ)
            left = self._from_exec or await handover.from_store(
                systemd.listen_fds(os.environ), self._notifier
            )
        kept = left.usable(keep=(GRPC, KEEPER, HANDOFF))
        succession.unpack(left, kept, node.handoff)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(node.close)
            with naming("workers cannot be started"):
                await stack.enter_async_context(_running(node.pool))
            await stack.enter_async_context(_running(node.deaths))
            with naming(f"cannot listen on {settings.handoff_socket}"):
                self._handoff = stack.enter_context(self._handoff_listener(left))
            failed: BaseException | None = None
            try:
                async with asyncio.TaskGroup() as group:
                    await self._let_in(group, stack, left)
                    idle.sessions(len(node.sessions))
                    say_ready(settings.ready_fd)
                    cards = len(node.inventory.cards)
                    self._notifier.ready(f"{cards} cards, {len(kept.sessions)} sessions kept")
                    loop.add_signal_handler(signal.SIGHUP, self._reload)
                    event(log, "broker.ready", socket=settings.socket, pid=os.getpid())
                    _spare_garbage_collection()
                    await self._end()
                    raise _Left
            except* _Left:
                pass
            except* CannotStart as errors:
                failed = errors.exceptions[0]
            if failed is not None:
                raise failed
        event(log, "broker.stopped")

    async def _let_in(
        self, group: asyncio.TaskGroup, stack: contextlib.AsyncExitStack, left: Handover
    ) -> None:
        settings, node = self._settings, self._node
        watchdog = systemd.Watchdog.from_environment(os.environ)
        if watchdog is not None:
            group.create_task(watchdog.run(self._notifier))
        group.create_task(node.handoff.serve(self._handoff, node.recover))
        await node.handoff.serving.wait()
        with naming(f"cannot listen on {settings.socket}"):
            await self._serve_grpc(group, stack, left)
        stack.push_async_callback(node.network.stop, GRPC_GRACE)
        with naming("TCP cannot be listened on"):
            await node.network.start(
                node.methods,
                node.sessions,
                node.admission,
                node.remote_welcome,
                lambda presented: node.tenants_file.current.token_name(presented),
            )
        group.create_task(node.network.watch())
        ticking = node.ticker.run() if node.ticker else _every(TICK_SECONDS, node.measure)
        group.create_task(ticking)
        group.create_task(node.tenants_file.watch())
        group.create_task(node.monitor.run())
        if node.data_plane is not None:
            self._helpers.append(group.create_task(node.data_plane.run()))
            await node.data_plane.wait_ready()
        if settings.metrics_listen:
            with naming(f"cannot listen on {settings.metrics_listen}"):
                sock = telemetry.listen(settings.metrics_listen, settings.mode)
            metrics = Telemetry(
                sock,
                settings.worker_user,
                node.metrics.numbers,
                lambda: "it is shutting down" if self._wishes.leave else "",
            )
            stack.callback(metrics.close)
            self._helpers.append(group.create_task(metrics.run()))
            event(log, "metrics.listening", address=metrics.address)

    async def _serve_grpc(
        self, group: asyncio.TaskGroup, stack: contextlib.AsyncExitStack, left: Handover
    ) -> None:
        """Raises: OSError."""
        settings = self._settings
        public = settings.socket
        self._grpc = GrpcServer(self._node.methods, self._node.sessions, self._node.admission)
        stack.push_async_callback(self._grpc.stop, GRPC_GRACE)
        activated, keeper = left.take(GRPC), left.take(KEEPER)
        self._activated = None if activated is None else systemd.unix_listener(GRPC, activated)
        if self._activated is not None:
            private = public.with_name(f"{public.name}.grpc")
            await self._grpc.start(private, 0o600)
            self._relay = relay.Relay(self._activated, private)
            group.create_task(self._relay.run())
            return
        # gRPC removes the name it was told when it stops, so it is never told the public one
        await self._grpc.start(relay.aside(public), settings.mode)
        relay.move_over(relay.aside(public), public, settings.mode, self._share)
        stack.callback(public.unlink, missing_ok=True)
        if keeper is not None:
            group.create_task(relay.drain_into(systemd.unix_listener(KEEPER, keeper), public))

    @contextlib.contextmanager
    def _handoff_listener(self, left: Handover) -> Iterator[socket]:
        is_activated = GRPC in left.descriptors
        given = left.take(HANDOFF)
        path = self._settings.handoff_socket
        listener = (
            handoff.listen(path, self._settings.mode)
            if given is None
            else systemd.unix_listener(HANDOFF, given)
        )
        if given is None:
            self._share(path)
        try:
            yield listener
        finally:
            listener.close()
            if not is_activated:
                path.unlink(missing_ok=True)

    def _share(self, path: Path) -> None:
        share(self._settings, path)

    def _reload(self) -> None:
        self._notifier.reloading()
        self._node.reload()
        self._notifier.ready()

    async def _end(self) -> None:
        """Until the daemon shall leave, and everybody has been given time; or for ever, as another."""
        wishes, node = self._wishes, self._node
        while not wishes.leave:
            await wishes.any.wait()
            wishes.any.clear()
            if wishes.replace and not wishes.leave:
                wishes.replace = False
                await self._replace()
        if (
            self._activated is not None
            and self._notifier.is_heard
            and not await unit.is_being_stopped()
        ):
            await self._leave_to_systemd()
        self._notifier.stopping()
        event(log, "broker.draining", leases=len(node.arbiter.book.leases()))
        await node.arbiter.drain(self._settings.drain_grace)

    async def _replace(self) -> None:
        """Become the program that is installed now, with all sessions. Returns only if nothing was done."""
        event(log, "broker.replacing", sessions=len(self._node.sessions))
        others = {LOCK: self._lock, HANDOFF: self._handoff.fileno()}
        keeper: socket | None = None
        if self._activated is not None:
            others[GRPC] = self._activated.fileno()
        else:
            try:
                keeper = relay.listen_over(self._settings.socket, self._settings.mode, self._share)
            except OSError as exc:
                event(log, "broker.not_replaced", logging.ERROR, cause=exc)
                return
            others[KEEPER] = keeper.fileno()
        self._notifier.reloading()
        noted = _noted_signals()
        await self._quiesce()
        self._flush()
        if self._wishes.leave:
            noted.append(signal.SIGTERM)  # the successor, for all are with it
        try:
            successor = succession.pack(self._node.handoff, others)
            handover.exec_with(successor, sys.executable, sys.orig_argv, os.environ, noted)
        except (OSError, ValueError) as exc:
            event(log, "broker.not_replaced", logging.ERROR, cause=exc)
            self._lines.flush()
            os._exit(1)  # nobody is served any more: better a clean start

    async def _leave_to_systemd(self) -> None:
        """It keeps sockets and sessions for our next start; at a stop it closes them."""
        event(log, "broker.leaving", sessions=len(self._node.sessions))
        self._notifier.stopping()
        await self._quiesce()
        try:
            await handover.store(succession.pack(self._node.handoff, {}), self._notifier)
        except (OSError, TimeoutError, ValueError) as exc:
            event(log, "broker.sessions_lost", logging.ERROR, cause=exc)
        self._flush()
        os._exit(0)

    async def _quiesce(self) -> None:
        """Nothing is under way any more, no process of ours is left, and every client knows."""
        if self._relay is not None:
            self._relay.suspend()
        # what has just been connected to gRPC has a moment to be served: it cancels what comes too late
        await asyncio.gather(self._node.handoff.suspend(), asyncio.sleep(GRPC_LAST_CALLS))
        await self._grpc.stop(GRPC_GRACE)
        await self._node.network.stop(GRPC_GRACE)
        for task in self._helpers:
            task.cancel()
        if self._helpers:
            await asyncio.wait(self._helpers)
        self._node.tell_that_workers_end("the broker was replaced")
        await self._node.pool.stop()
        await self._node.arbiter.freeze()

    def _flush(self) -> None:
        self._node.leave_records()
        event(log, "broker.left")
        self._lines.flush()


def _noted_signals() -> list[int]:
    """SIGTERM and SIGINT from now on, also those that come when the loop does not run any more."""
    loop = asyncio.get_running_loop()
    noted: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, noted.append, number)
        signal.signal(number, lambda number, _: noted.append(number))
    return noted


@contextlib.asynccontextmanager
async def _running(part: WorkerPool | DeathWatch) -> AsyncIterator[None]:
    await part.start()
    try:
        yield
    finally:
        await part.stop()


def _spare_garbage_collection() -> None:
    """What is here now stays, and what calls leave behind has hardly a cycle: it is looked at less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


async def _every(seconds: float, do: Callable[[], object]) -> None:
    while True:
        do()
        await asyncio.sleep(seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 after an orderly stop, 1 when it cannot start, 2 for bad settings."""
    try:
        given = sys.argv[1:] if arguments is None else arguments
        settings = BrokerSettings.load(given, os.environ)
    except BadSettings as exc:
        sys.stderr.write(f"furiosa-brokerd: {exc}\n")
        return 2
    lines = set_up(settings.log_level, settings.log_format)
    left = handover.from_environment(os.environ)
    if left is not None:
        settings = dataclasses.replace(settings, ready_fd=-1)  # said long ago
    try:
        with only_one(settings, None if left is None else left.take(LOCK)) as lock:
            asyncio.run(Daemon(settings, lines, lock, left).serve())
    except CannotStart as exc:
        lines.flush()
        sys.stderr.write(f"furiosa-brokerd: {exc}\n")
        return 1
    finally:
        lines.close()
    return 0
