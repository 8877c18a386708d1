"""The data-plane process as the broker sees it: started, answered, started again when it dies.

It serves tensors over gRPC, so it reads what clients made and is trusted with little: it can ask only for
a session whose token it was shown, and close only queues that it opened.
"""

import contextlib
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

from furiosa.broker.helper_process import HelperProcess
from furiosa.broker.lease_book import LeaseBook
from furiosa.broker.rpc.frames import Peer
from furiosa.broker.rpc.methods import Call, Unary
from furiosa.broker.rpc.program_service import ProgramService
from furiosa.broker.sessions import Session, Sessions
from furiosa.common.errors import BadArgument, FuriosaError, NoSession
from furiosa.proto.broker.v1 import handoff_pb2 as pb
from furiosa.proto.broker.v1 import programs_pb2


class DataPlane:
    """`path` is the Unix socket it listens on, `mode` its permissions, `user` whom it runs as.

    `share(path)` is called each time the socket has been made. `arguments` and the descriptors
    `inherited` make it listen on TCP, too.
    """

    def __init__(
        self,
        path: Path,
        mode: int,
        user: str,
        share: Callable[[Path], None],
        sessions: Sessions,
        leases: LeaseBook,
        programs: ProgramService,
        *,
        arguments: Sequence[str] = (),
        inherited: Sequence[int] = (),
    ) -> None:
        self._path = path
        self._share = share
        self._sessions = sessions
        self._leases = leases
        self._programs = programs
        self._peer: Peer | None = None
        self._queues: set[tuple[str, int]] = set()  # of this process: lease, queue
        # who sends their notices to this process, too; weakly, for sessions end without a word to us
        self._followed: weakref.WeakSet[Session] = weakref.WeakSet()
        self._process = HelperProcess(
            "dataplane",
            "furiosa.dataplane",
            ("--socket", str(path), "--socket-mode", f"{mode:o}", "--user", user, *arguments),
            {
                "Session/DescribeProgramFor": Unary(pb.DescribeProgramForRequest, self._describe),
                "Session/OpenQueueFor": Unary(pb.OpenQueueForRequest, self._open_queue),
                "Session/CloseQueue": Unary(pb.CloseQueueRequest, self._close_queue),
            },
            inherited=inherited,
            on_ready=self._ready,
            on_end=self._ended,
        )

    @property
    def target(self) -> str:
        """Where clients find it; empty while it does not run."""
        return f"unix:{self._path}" if self._process.is_ready else ""

    async def wait_ready(self) -> None:
        """Until it listens for the first time, or has failed to. Bounded."""
        await self._process.wait_ready()

    async def run(self) -> None:
        """Keep one running until cancelled."""
        await self._process.run()

    def _ready(self, peer: Peer) -> None:
        self._peer = peer
        self._share(self._path)

    async def _ended(self) -> None:
        """Close a dead process's queues; some are gone already, with their lease or their worker."""
        self._path.unlink(missing_ok=True)
        peer, self._peer = self._peer, None
        if peer is not None:
            for session in self._followed:
                session.followers.discard(peer.notify)
            self._followed.clear()
        queues, self._queues = self._queues, set()
        for lease_id, queue_id in queues:
            with contextlib.suppress(FuriosaError):
                await self._programs.close_opened_queue(lease_id, queue_id)

    def _session(self, token: str, call: Call) -> Session:
        session = self._sessions.by_token(token)
        if session is None:
            raise NoSession(call.method)
        return session

    async def _describe(
        self, request: pb.DescribeProgramForRequest, call: Call
    ) -> pb.DescribeProgramForResponse:
        own = Call(call.method, self._session(request.session_token, call))
        described = await self._programs.describe(
            programs_pb2.DescribeProgramRequest(
                lease_id=request.lease_id, program_id=request.program_id
            ),
            own,
        )
        files = self._programs.program_files(request.lease_id, request.program_id)
        return pb.DescribeProgramForResponse(
            program=described.program, device_files=map(str, files)
        )

    async def _open_queue(
        self, request: pb.OpenQueueForRequest, call: Call
    ) -> pb.OpenQueueResponse:
        session = self._session(request.session_token, call)
        own = Call(call.method, session, attached=call.attached)
        response = await self._programs.open_queue(request, own)
        self._queues.add((request.lease_id, response.queue_id))
        holder = self._leases.session_of(request.lease_id)
        if holder is not None and self._peer is not None:
            holder.followers.add(self._peer.notify)
            self._followed.add(holder)
        return response

    async def _close_queue(
        self, request: pb.CloseQueueRequest, call: Call
    ) -> pb.CloseQueueResponse:
        key = (request.lease_id, request.queue_id)
        if key not in self._queues:
            raise BadArgument("queue_id", str(request.queue_id), "a queue that you opened")
        self._queues.discard(key)
        await self._programs.close_opened_queue(*key)
        return pb.CloseQueueResponse()
