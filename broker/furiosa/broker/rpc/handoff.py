"""The handoff socket: sessions with a kernel-verified peer, and descriptors. See handoff.proto."""

import asyncio
import contextlib
import dataclasses
import logging
import os
import resource
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from furiosa.broker.deathwatch import DeathWatch
from furiosa.broker.log import event as log_event
from furiosa.broker.owners import Owner, Unidentified, identify
from furiosa.broker.rpc.frames import Peer
from furiosa.broker.rpc.left import Left
from furiosa.broker.rpc.methods import Call, Method, Unary
from furiosa.broker.rpc.turns import Turns
from furiosa.broker.sessions import Session, Sessions
from furiosa.common.channel import encode, send
from furiosa.common.errors import BadArgument, FuriosaError, LimitExceeded
from furiosa.common.failures import failed_to_wire
from furiosa.common.status import to_failed
from furiosa.common.wire import PROTOCOL_VERSION
from furiosa.proto.broker.v1 import handoff_pb2 as pb

log = logging.getLogger(__name__)

HELLO_WITHIN_SECONDS: Final = 10.0
BACKLOG: Final = 512
# Each has up to four; the rest leaves half of ours to other users, or to workers.
DESCRIPTORS_OF_CONNECTION: Final = 8
GREETING_SECONDS: Final = 1.0  # for who has just been accepted to say hello, before a replacement
ACCEPT_AT_ONCE: Final = 64  # then it is the turn of those who are connected
RETRY_ACCEPT_SECONDS: Final = 0.1  # after running out of descriptors
# What a successor is handed at most. The descriptors fit into a socket's buffer of the usual size.
MOST_BYTES: Final = 64 * 1024 * 1024
MOST_DESCRIPTORS: Final = 20_000
OWN_DESCRIPTORS: Final = 3  # of a session: its socket, pidfd and the memory of its death notice

Armed = tuple[int, int]  # memory and thread of a death notice


def listen(path: Path, mode: int) -> socket.socket:
    """A new handoff socket at `path`. Raises: OSError."""
    path.unlink(missing_ok=True)  # left by a killed broker; the lock file says it is not in use
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        before = os.umask(0o777 & ~mode)  # as gRPC's: never more open than it will be
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        path.chmod(mode)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


class HandoffServer:
    """`welcome(session)` makes the greeting; `methods` are those of gRPC and of descriptors."""

    def __init__(
        self,
        methods: Mapping[str, Method],
        sessions: Sessions,
        deaths: DeathWatch,
        welcome: Callable[[Session], pb.Welcome],
    ) -> None:
        self.methods = {
            **methods,
            "Session/ArmDeathNotice": Unary(pb.ArmDeathNoticeRequest, self._arm_death_notice),
        }
        self.sessions = sessions
        self.deaths = deaths
        self.welcome = welcome
        self.connections: set[_Connection] = set()
        self._to_restore: list[tuple[Session, Owner, Left, Armed | None]] = []
        self._retry: asyncio.TimerHandle | None = None
        self.serving = asyncio.Event()
        self.turns = Turns()
        self.greeted = asyncio.Event()  # somebody said hello, or left

    def owner_died(self, key: int) -> None:
        """End the connections of a process, also those that its children inherited."""
        for connection in tuple(self.connections):
            if connection.owner.key == key:
                connection.peer.close(f"its process, pid {connection.owner.pid}, died")

    async def serve(self, listener: socket.socket, recover: Callable[[], None]) -> None:
        """Accept until cancelled; then end every session. `listener` must not block, and stays yours.

        `recover` is called when the restored sessions are there, and before anybody else is let in.
        """
        async with asyncio.TaskGroup() as self._calls:
            self._listener = listener
            pending = [(each, peer) for peer, left in self._restored() for each in left.pending]
            recover()
            now = asyncio.get_running_loop().time()
            for each, peer in sorted(pending, key=lambda pair: pair[0].since):
                peer.repeat(each, now)
            self._listen()
            self.serving.set()
            try:
                await asyncio.Event().wait()
            finally:  # while the group still takes the calls that come in
                self._stop_listening()
                for connection in tuple(self.connections):
                    connection.peer.close("the broker stopped")

    def restore(self, session: Session, owner: Owner, left: Left, armed: Armed | None) -> None:
        """Before `serve`: a connection that a broker before had, with its session.

        Calls of all of them that are to be made again are made in the order in which they came.
        """
        self._to_restore.append((session, owner, left, armed))

    async def suspend(self) -> None:
        """Accept nobody, and bring the calls of all connections to an end, in bounded time."""
        self._stop_listening()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GREETING_SECONDS):
                while any(connection.peer.session is None for connection in self.connections):
                    self.greeted.clear()
                    await self.greeted.wait()
        for connection in tuple(self.connections):
            if connection.peer.session is None:
                connection.peer.close("the broker is being replaced")
        if self.connections:
            suspending = [asyncio.ensure_future(c.peer.suspend()) for c in self.connections]
            await asyncio.wait(suspending)
        self._lighten()

    def give_away(self) -> Iterator[tuple[Session, Owner, Left, Armed | None]]:
        """Every session, for a successor; what is given is not closed by us any more."""
        for connection in tuple(self.connections):
            session = connection.peer.session
            assert session is not None
            armed = self.deaths.armed(connection.owner)
            yield session, connection.owner, connection.peer.give_away(), armed

    def _lighten(self) -> None:
        """Hang up on those with whom a successor would be handed too much: first who has most in its
        buffers, then who came last.
        """
        burdens = [
            (connection.peer.burden, connection.peer.session.id, connection)
            for connection in self.connections
            if connection.peer.session is not None
        ]
        room, places = MOST_BYTES, MOST_DESCRIPTORS
        for (size, descriptors), _, connection in sorted(burdens, key=lambda burden: burden[:2]):
            room -= size
            places -= descriptors + OWN_DESCRIPTORS
            if room < 0 or places < 0:
                connection.peer.close("too much of it is unread to be handed to a new broker")

    def _restored(self) -> Iterator[tuple[Peer, Left]]:
        for session, owner, left, armed in self._to_restore:
            connection = _Connection(self, left.socket, owner, self._calls)
            self.connections.add(connection)
            connection.go_on(session, left, armed)
            yield connection.peer, left

    def _listen(self) -> None:
        self._retry = None
        asyncio.get_running_loop().add_reader(self._listener, self._acceptable)

    def _stop_listening(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        asyncio.get_running_loop().remove_reader(self._listener)

    def _acceptable(self) -> None:
        """Accepted at once or not at all: what a cancelled accept had taken would be lost."""
        for _ in range(ACCEPT_AT_ONCE):
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as exc:  # out of descriptors: those who are connected must not suffer
                log_event(log, "session.not_accepted", logging.ERROR, cause=exc)
                self._stop_listening()
                loop = asyncio.get_running_loop()
                self._retry = loop.call_later(RETRY_ACCEPT_SECONDS, self._listen)
                return
            self._accepted(sock)

    def _accepted(self, sock: socket.socket) -> None:
        try:
            owner = identify(sock)
        except (Unidentified, OSError) as exc:
            who, expected = f"not identified: {exc}", "a live process the broker can see"
            _refuse(sock, BadArgument("the peer", who, expected))
            return
        used = sum(connection.owner.uid == owner.uid for connection in self.connections)
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // DESCRIPTORS_OF_CONNECTION
        if used >= most:
            owner.close()
            _refuse(sock, LimitExceeded(f"connections of user {owner.uid}", used + 1, most))
            return
        self.connections.add(_Connection(self, sock, owner, self._calls))

    async def _arm_death_notice(
        self, request: pb.ArmDeathNoticeRequest, call: Call
    ) -> pb.ArmDeathNoticeResponse:
        owner = call.need_session().owner
        assert isinstance(owner, Owner), "sessions of this socket are of local processes"
        self.deaths.arm(owner, request.thread_id)
        return pb.ArmDeathNoticeResponse()


def _refuse(sock: socket.socket, error: FuriosaError) -> None:
    """Say why before hanging up, as far as one write goes."""
    log_event(log, "session.refused", logging.WARNING, cause=error)
    frame = pb.Frame(failure=failed_to_wire(to_failed(error)))
    sock.setblocking(False)
    with contextlib.suppress(OSError):
        send(sock, encode(frame.SerializeToString()))
    sock.close()


class _Connection:
    """One client: the process behind it, and its session once it has said hello."""

    def __init__(
        self, server: HandoffServer, sock: socket.socket, owner: Owner, calls: asyncio.TaskGroup
    ) -> None:
        self._server = server
        self.owner = owner
        self.peer = Peer(
            sock,
            server.methods,
            calls,
            self._hello,
            self._closed,
            server.turns,
            (owner.uid, owner.container),
        )
        self._hello_timer = asyncio.get_running_loop().call_later(
            HELLO_WITHIN_SECONDS, self.peer.close, f"no hello within {HELLO_WITHIN_SECONDS:g} s"
        )
        server.deaths.watch(owner)

    def _hello(self, frame: pb.Frame) -> bool:
        if frame.WhichOneof("body") != "hello":
            self.peer.close("no hello")
            return False
        version = frame.hello.protocol_version
        if version != PROTOCOL_VERSION:
            error = BadArgument("protocol_version", str(version), str(PROTOCOL_VERSION))
            self.peer.send(pb.Frame(failure=failed_to_wire(to_failed(error))))
            self.peer.close(str(error))
            return False
        self._hello_timer.cancel()
        try:
            memory = os.dup(self._server.deaths.memory_for(self.owner))
        except OSError as exc:
            self.peer.close(str(exc))
            return False
        session = self._server.sessions.open(self.owner, frame.hello.client, self.peer.notify)
        self.peer.session = session
        self._server.greeted.set()
        log_event(
            log,
            "session.opened",
            session=session.id,
            pid=self.owner.pid,
            client=session.client,
            command=self.owner.command_line,  # read now, it is remembered when the process is gone
        )
        self.peer.send(pb.Frame(welcome=self._server.welcome(session)), [memory])
        return True

    def go_on(self, session: Session, left: Left, armed: Armed | None) -> None:
        """With a session that another broker process opened."""
        self._hello_timer.cancel()
        live = dataclasses.replace(session, send_notice=self.peer.notify)
        self._server.sessions.add(live)
        if armed is not None:
            self._server.deaths.restore(self.owner, *armed)
        self.peer.resume(live, left)

    def _closed(self, cause: str) -> None:
        self._hello_timer.cancel()
        self._server.connections.discard(self)
        self._server.greeted.set()
        if (session := self.peer.session) is not None:
            self._server.sessions.close(session, cause)
            log_event(log, "session.ended", session=session.id, pid=self.owner.pid, cause=cause)
        self._server.deaths.forget(self.owner)
        self.owner.close()
