"""A helper process: started by the broker, unprivileged, asked for nothing but frames, started again when
it dies.

It talks to strangers, so it is trusted with little: over the socket pair it inherits it may call the few
methods it is given, and every one of those checks what it is told.
"""

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from furiosa.broker.log import event as log_event
from furiosa.broker.rpc.frames import Peer
from furiosa.broker.rpc.methods import Method
from furiosa.broker.workers.spawner import environment
from furiosa.proto.broker.v1 import handoff_pb2 as pb

log = logging.getLogger(__name__)

READY_SECONDS: Final = 60.0  # until it says hello; a cold disk is slow
RESTART_SECONDS: Final = 1.0  # between two attempts, doubled while it does not even become ready
MAX_RESTART_SECONDS: Final = 30.0
STOP_SECONDS: Final = 5.0  # to end by itself after SIGTERM


class HelperProcess:
    """`python -m MODULE ARGUMENTS --broker-fd N`, which says hello when it is ready and ends at EOF on N.

    It starts with the broker's user and gives that up itself, once it has what only root may open.
    `inherited` are further descriptors it gets, under the same numbers; they stay yours.
    `on_ready(peer)` is called each time it is ready, `on_end()` after each attempt, when it and its
    calls have ended. The log calls it `name`.
    """

    def __init__(
        self,
        name: str,
        module: str,
        arguments: Sequence[str],
        methods: Mapping[str, Method],
        *,
        inherited: Sequence[int] = (),
        on_ready: Callable[[Peer], None] = lambda _: None,
        on_end: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._name = name
        self._command = (sys.executable, "-P", "-m", module, *arguments)
        self._methods = methods
        self._inherited = tuple(inherited)
        self._on_ready = on_ready
        self._on_end = on_end
        self._tried = asyncio.Event()  # to start it, once
        self._ready = False
        self._delay = RESTART_SECONDS

    @property
    def is_ready(self) -> bool:
        return self._ready

    async def wait_ready(self) -> None:
        """Until it is ready for the first time, or has failed to be. Bounded."""
        await self._tried.wait()

    async def run(self) -> None:
        """Keep one running until cancelled."""
        while True:
            try:
                async with asyncio.TaskGroup() as calls:
                    cause = await self._run_once(calls)
            except* OSError as group:  # no descriptors, no processes: it may pass
                cause = str(group.exceptions[0])
            finally:
                self._tried.set()
                if self._on_end is not None:
                    await self._on_end()
            log_event(log, f"{self._name}.ended", logging.ERROR, cause=cause)
            await asyncio.sleep(self._delay)
            self._delay = min(2 * self._delay, MAX_RESTART_SECONDS)

    async def _run_once(self, calls: asyncio.TaskGroup) -> str:
        """Until it ends; the cause."""
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        closed: asyncio.Future[str] = loop.create_future()
        greeted: asyncio.Future[None] = loop.create_future()

        def hello(frame: pb.Frame) -> bool:
            if frame.WhichOneof("body") != "hello":
                return False
            if not greeted.done():
                greeted.set_result(None)
            return True

        def ended(cause: str) -> None:
            if not closed.done():  # cancelled, when the broker stops
                closed.set_result(cause)

        peer = Peer(ours, self._methods, calls, hello, ended)
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *self._command,
                    *("--broker-fd", str(theirs.fileno())),
                    pass_fds=(theirs.fileno(), *self._inherited),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the broker, which then decides
                    env=environment(os.environ),
                )
        except BaseException:
            peer.close("it cannot be started")
            raise
        try:
            first, _ = await asyncio.wait(
                (greeted, closed), timeout=READY_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if not first:
                return f"was not ready within {READY_SECONDS:g} s"
            if not closed.done():
                self._ready = True
                self._delay = RESTART_SECONDS
                log_event(log, f"{self._name}.ready", pid=process.pid)
                self._on_ready(peer)
                self._tried.set()
            return await closed
        finally:
            self._ready = False
            try:
                await _end(process)
            finally:
                peer.close("it ended")


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
