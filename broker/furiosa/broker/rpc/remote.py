"""Sessions/Attach: sessions of clients on other machines. The stream is the session. See sessions.proto."""

import asyncio
import logging
import secrets
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from urllib.parse import unquote

from furiosa.broker.log import event as log_event
from furiosa.broker.owners import ProcessMark
from furiosa.broker.rpc.gate import Caller, Identity
from furiosa.broker.sessions import Session, shown
from furiosa.broker.tenants.principal import Principal
from furiosa.common.errors import BadArgument, LimitExceeded
from furiosa.common.views import Notice, OwnerView
from furiosa.common.wire import PROTOCOL_VERSION, notice_to_wire
from furiosa.proto.broker.v1 import handoff_pb2
from furiosa.proto.broker.v1 import sessions_pb2 as pb

log = logging.getLogger(__name__)

MAX_STREAMS: Final = 2048  # sessions of all remote clients
MAX_STREAMS_OF_ONE: Final = 256  # of one subject or token
MAX_NOTICES: Final = 256  # that a client has not read
NOBODY: Final = 65_534  # the kernel's number for unknown users; never 0, who may everything


@dataclass(frozen=True, slots=True, eq=False)
class RemoteOwner:
    """A client on another machine, in the place of a process: each of its streams is another one."""

    identity: Identity
    peer: str  # "<host>:<port>"
    command_line: str  # what it calls itself
    # no process has a negative one; and no one else gets it after a restart of the broker
    key: int = field(default_factory=lambda: -1 - secrets.randbits(62))
    pid: int = 0
    uid: int = NOBODY
    gid: int = NOBODY
    start_time_ticks: int = 0
    is_alive: bool = True  # as far as anybody knows

    @property
    def view(self) -> OwnerView:
        return OwnerView(
            self.pid,
            self.uid,
            self.gid,
            self.start_time_ticks,
            self.command_line,
            remote=self.peer,
            subject=str(self.identity),
        )

    @property
    def principal(self) -> Principal:
        return Principal(subject=self.identity.subject, token=self.identity.token)

    @property
    def mark(self) -> ProcessMark:
        return ProcessMark(self.pid, self.uid, self.gid, self.start_time_ticks, self.key)


class OpenSession(Protocol):
    """The session must be found by `token`, and by no other, as long as it lives."""

    def __call__(
        self,
        owner: RemoteOwner,
        client: str,
        send_notice: Callable[[Notice], None],
        *,
        token: str,
    ) -> Session: ...


class RemoteSessions:
    """`welcome(session)` makes the greeting but for the token."""

    def __init__(
        self,
        open_session: OpenSession,
        close_session: Callable[[Session, str], None],
        welcome: Callable[[Session], handoff_pb2.Welcome],
    ) -> None:
        self._open = open_session
        self._close = close_session
        self._welcome = welcome
        self._streams: dict[_Stream, Callable[[], object]] = {}  # raises if it is not let in now
        self._of_one: Counter[Identity] = Counter()

    def recheck(self) -> None:
        """End the sessions of those who would not be let in any more, e.g. whose token was revoked."""
        for stream, prove in tuple(self._streams.items()):
            try:
                prove()
            except Exception as exc:  # whatever keeps him out now
                stream.end(str(exc))

    def stop(self) -> None:
        for stream in tuple(self._streams):
            stream.end("the broker stopped")

    async def attach(
        self, hello: handoff_pb2.Hello, context: Any, caller: Caller, prove: Callable[[], object]
    ) -> str:
        """Serve the stream to its end; why the broker ended it. `prove` raises if he is not let in now.

        Raises: BadArgument, LimitExceeded; CancelledError when the client ended it.
        """
        assert caller.identity is not None
        assert caller.proof is not None
        if hello.protocol_version != PROTOCOL_VERSION:
            found = str(hello.protocol_version)
            raise BadArgument("protocol_version", found, str(PROTOCOL_VERSION))
        identity = caller.identity
        if len(self._streams) >= MAX_STREAMS:
            raise LimitExceeded("remote sessions", len(self._streams) + 1, MAX_STREAMS)
        if self._of_one[identity] >= MAX_STREAMS_OF_ONE:
            used = self._of_one[identity] + 1
            raise LimitExceeded(f"remote sessions of {identity}", used, MAX_STREAMS_OF_ONE)
        owner = RemoteOwner(identity, peer_of(context), shown(hello.client))
        token = secrets.token_hex(32)
        stream = _Stream()
        session = self._open(
            owner, owner.command_line, stream.notify, token=caller.proof.bind(token)
        )
        log_event(
            log,
            "session.opened",
            session=session.id,
            remote=owner.peer,
            subject=identity,
            client=owner.command_line,
        )
        self._streams[stream] = prove
        self._of_one[identity] += 1
        cause = "the client ended it or its connection was lost"
        try:
            welcome = self._welcome(session)
            welcome.session_token = token
            cause = await stream.serve(context, pb.AttachResponse(welcome=welcome))
            return cause
        except asyncio.CancelledError:
            if stream.cause is None:
                raise
            cause = stream.cause
            return cause
        finally:
            del self._streams[stream]
            self._of_one[identity] -= 1
            if not self._of_one[identity]:
                del self._of_one[identity]
            self._close(session, cause)
            log_event(log, "session.ended", session=session.id, remote=owner.peer, cause=cause)


class _Stream:
    """The broker's end of one stream. Notices wait here until the client takes them."""

    def __init__(self) -> None:
        self.cause: str | None = None  # why the broker ends it
        self._notices: deque[Notice] = deque()
        self._news = asyncio.Event()
        self._task: asyncio.Task[Any] | None = None  # while it is served

    def notify(self, notice: Notice) -> None:
        if len(self._notices) < MAX_NOTICES:
            self._notices.append(notice)
            self._news.set()
        elif self.cause is None:
            self.end(f"{MAX_NOTICES} notices were never read")

    def end(self, cause: str) -> None:
        """Also while it waits for the client to take something."""
        self.cause = cause
        if self._task is not None:
            self._task.cancel()

    async def serve(self, context: Any, first: pb.AttachResponse) -> str:
        """Keeps nothing of gRPC's beyond its end, for the session may be remembered for long."""
        # on its own, and not to be cancelled: a status that follows a cancelled one never reaches the client
        await context.send_initial_metadata(())
        self._task = asyncio.current_task()
        try:
            if self.cause is None:
                await context.write(first)
            while self.cause is None:
                while self._notices:
                    notice = notice_to_wire(self._notices.popleft())
                    await context.write(pb.AttachResponse(notice=notice))
                self._news.clear()
                await self._news.wait()
            return self.cause
        finally:
            self._task = None


def peer_of(context: Any) -> str:
    """`<host>:<port>` from gRPC's "ipv4:1.2.3.4:5" or "ipv6:%5B::1%5D:5"."""
    _, _, address = str(context.peer()).partition(":")
    return unquote(address)
