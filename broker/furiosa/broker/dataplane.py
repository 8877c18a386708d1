"""The data-plane process as the broker sees it: started, answered, started again when it dies.

It serves tensors over gRPC, so it reads what clients made and is trusted with little: it can ask only for
a session whose token it was shown, and close only queues that it opened.
"""

import asyncio
import contextlib
import logging
import os
import socket
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Final

from furiosa.broker.arbiter import Arbiter
from furiosa.broker.log import event as log_event
from furiosa.broker.rpc.frames import Peer
from furiosa.broker.rpc.methods import Call, Method, Unary
from furiosa.broker.rpc.program_service import ProgramService
from furiosa.broker.sessions import Session, Sessions
from furiosa.broker.workers.spawner import environment
from furiosa.common.errors import BadArgument, FuriosaError, NoSession
from furiosa.proto.broker.v1 import handoff_pb2 as pb
from furiosa.proto.broker.v1 import programs_pb2

log = logging.getLogger(__name__)

READY_SECONDS: Final = 60.0  # until it listens; a cold disk is slow
RESTART_SECONDS: Final = 1.0  # between two attempts
STOP_SECONDS: Final = 5.0  # to end by itself after SIGTERM


class DataPlane:
    """`path` is the Unix socket it listens on, `mode` its permissions, `user` whom it runs as.

    `share(path)` is called each time the socket has been made.
    """

    def __init__(
        self,
        path: Path,
        mode: int,
        user: str,
        share: Callable[[Path], None],
        sessions: Sessions,
        arbiter: Arbiter,
        programs: ProgramService,
    ) -> None:
        self._path = path
        self._mode = mode
        self._user = user
        self._share = share
        self._sessions = sessions
        self._arbiter = arbiter
        self._programs = programs
        self._peer: Peer | None = None
        self._tried = asyncio.Event()  # to start it, once
        self._queues: set[tuple[str, int]] = set()  # of this process: lease, queue
        # who sends their notices to this process, too; weakly, for sessions end without a word to us
        self._followed: weakref.WeakSet[Session] = weakref.WeakSet()
        self._methods: dict[str, Method] = {
            "Session/DescribeProgramFor": Unary(pb.DescribeProgramForRequest, self._describe),
            "Session/OpenQueueFor": Unary(pb.OpenQueueForRequest, self._open_queue),
            "Session/CloseQueue": Unary(pb.CloseQueueRequest, self._close_queue),
        }

    @property
    def target(self) -> str:
        """Where clients find it; empty while it does not run."""
        return "" if self._peer is None else f"unix:{self._path}"

    async def wait_ready(self) -> None:
        """Until it listens for the first time, or has failed to. Bounded."""
        await self._tried.wait()

    async def run(self) -> None:
        """Keep one running until cancelled."""
        while True:
            async with asyncio.TaskGroup() as calls:
                try:
                    cause = await self._run_once(calls)
                except OSError as exc:  # no descriptors, no processes: it may pass
                    cause = str(exc)
                finally:
                    self._tried.set()
            log_event(log, "dataplane.ended", logging.ERROR, cause=cause)
            await self._close_queues()
            await asyncio.sleep(RESTART_SECONDS)

    async def _run_once(self, calls: asyncio.TaskGroup) -> str:
        """Until it ends; the cause."""
        ours, theirs = socket.socketpair()
        closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        listening = asyncio.Event()

        def hello(frame: pb.Frame) -> bool:
            listening.set()
            return frame.WhichOneof("body") == "hello"

        def ended(cause: str) -> None:
            if not closed.done():  # cancelled, when the broker stops
                closed.set_result(cause)

        peer = Peer(ours, self._methods, calls, hello, ended)
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", "furiosa.dataplane"),
                    *("--socket", str(self._path), "--broker-fd", str(theirs.fileno())),
                    *("--socket-mode", f"{self._mode:o}", "--user", self._user),
                    pass_fds=(theirs.fileno(),),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the broker, which then decides
                    env=environment(os.environ),
                )
        except BaseException:
            peer.close("it cannot be started")
            raise
        try:
            starting = asyncio.create_task(listening.wait())
            await asyncio.wait(
                (starting, closed), timeout=READY_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            starting.cancel()
            if not listening.is_set() and not closed.done():
                return f"did not listen within {READY_SECONDS:g} s"
            if not closed.done():
                self._peer = peer
                self._share(self._path)
                log_event(log, "dataplane.ready", socket=self._path, pid=process.pid)
                self._tried.set()
            return await closed
        finally:
            self._peer = None
            for session in self._followed:
                session.followers.discard(peer.notify)
            self._followed.clear()
            try:
                await self._end(process)
            finally:
                peer.close("it ended")

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        self._path.unlink(missing_ok=True)

    async def _close_queues(self) -> None:
        """A dead process's; some are gone already, with their lease or their worker."""
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
        holder = self._arbiter.session_of(request.lease_id)
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
