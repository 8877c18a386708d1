"""The handoff socket: sessions with a kernel-verified peer, and descriptors. See handoff.proto."""

import asyncio
import contextlib
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
from furiosa.broker.rpc.methods import Call, Method, Unary
from furiosa.broker.sessions import Session, Sessions
from furiosa.common.channel import encode, send
from furiosa.common.errors import BadArgument, FuriosaError, LimitExceeded
from furiosa.common.status import to_failed
from furiosa.common.wire import failed_to_wire
from furiosa.proto.broker.v1 import handoff_pb2 as pb

log = logging.getLogger(__name__)

PROTOCOL_VERSION: Final = 1
HELLO_WITHIN_SECONDS: Final = 10.0
BACKLOG: Final = 512
# Each has up to four; the rest leaves half of ours to other users, or to workers.
DESCRIPTORS_OF_CONNECTION: Final = 8
RETRY_ACCEPT_SECONDS: Final = 0.1  # after running out of descriptors


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

    def owner_died(self, key: int) -> None:
        """End the connections of a process, also those that its children inherited."""
        for connection in tuple(self.connections):
            if connection.owner.key == key:
                connection.peer.close(f"its process, pid {connection.owner.pid}, died")

    @contextlib.contextmanager
    def listening(self, path: Path, mode: int) -> Iterator[socket.socket]:
        """The socket to `serve`. Raises: OSError."""
        path.unlink(missing_ok=True)  # left by a killed broker; the lock file says it is not in use
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.setblocking(False)
            before = os.umask(0o777 & ~mode)  # as gRPC's: never more open than it will be
            try:
                listener.bind(str(path))
            finally:
                os.umask(before)
            try:
                path.chmod(mode)
                listener.listen(BACKLOG)
                yield listener
            finally:
                path.unlink(missing_ok=True)

    async def serve(self, listener: socket.socket) -> None:
        """Accept until cancelled; then end every session."""
        async with asyncio.TaskGroup() as calls:
            try:
                await self._accept(listener, calls)
            finally:  # while the group still takes the calls that come in
                for connection in tuple(self.connections):
                    connection.peer.close("the broker stopped")

    async def _accept(self, listener: socket.socket, calls: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(listener)
            except OSError as exc:  # out of descriptors: those who are connected must not suffer
                log_event(log, "session.not_accepted", logging.ERROR, cause=exc)
                await asyncio.sleep(RETRY_ACCEPT_SECONDS)
                continue
            try:
                owner = identify(sock)
            except (Unidentified, OSError) as exc:
                who, expected = f"not identified: {exc}", "a live process the broker can see"
                _refuse(sock, BadArgument("the peer", who, expected))
                continue
            used = sum(connection.owner.uid == owner.uid for connection in self.connections)
            most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // DESCRIPTORS_OF_CONNECTION
            if used >= most:
                owner.close()
                _refuse(sock, LimitExceeded(f"connections of user {owner.uid}", used + 1, most))
                continue
            self.connections.add(_Connection(self, sock, owner, calls))

    async def _arm_death_notice(
        self, request: pb.ArmDeathNoticeRequest, call: Call
    ) -> pb.ArmDeathNoticeResponse:
        self.deaths.arm(call.need_session().owner, request.thread_id)
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
        self.peer = Peer(sock, server.methods, calls, self._hello, self._closed)
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

    def _closed(self, cause: str) -> None:
        self._hello_timer.cancel()
        self._server.connections.discard(self)
        if (session := self.peer.session) is not None:
            self._server.sessions.close(session, cause)
            log_event(log, "session.ended", session=session.id, pid=self.owner.pid, cause=cause)
        self._server.deaths.forget(self.owner)
        self.owner.close()
