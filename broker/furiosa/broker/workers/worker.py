"""The broker's end of one worker: what is asked of it, and what becomes of that when it ends."""

import asyncio
import contextlib
import dataclasses
import itertools
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from furiosa.broker.workers import counters, messages
from furiosa.broker.workers.counters import Counters, CountersPage
from furiosa.broker.workers.link import Link
from furiosa.broker.workers.messages import (
    Attach,
    BadMessage,
    Detach,
    Done,
    Inject,
    Load,
    Loaded,
    Message,
    QueueBroken,
    Ready,
    Refused,
    Started,
    Unload,
)
from furiosa.broker.workers.settings import WorkerSettings
from furiosa.broker.workers.spawner import Spawner
from furiosa.broker.workers.stderr import Stderr
from furiosa.common import errors as e
from furiosa.common.names import DeviceFile
from furiosa.queuepair import Descriptors, Geometry

_log = logging.getLogger(__name__)

# What a worker may answer with: it speaks for a program, not for the broker.
REFUSALS: Final = (e.InvalidProgram, e.UnsupportedProgram, e.LimitExceeded, e.InternalError)
LOOKS: Final = 4  # at a run in progress, in `run_timeout`


@dataclass(frozen=True, slots=True)
class _Pending:
    request: int
    name: str
    answer: type[Message]
    seconds: float
    future: "asyncio.Future[Any]"


class Worker:
    """Starts the process. `ready` and every request end with a result, or with why there is none:
    the worker's refusal, WorkerDied, or what `end` was given.

    `on_end` is called once, when the process is gone: with None after `end`, else with the cause.
    A worker that misses a deadline, is too long in one run or breaks the protocol is killed; the cause
    says so. `lacks` is what of its confinement it could not have, once it is ready.
    Raises: OSError when there are no descriptors left.
    """

    def __init__(
        self,
        spawner: Spawner,
        settings: WorkerSettings,
        file: DeviceFile,
        cpus: Sequence[int],
        on_end: Callable[[str | None], None],
        on_queue_broken: Callable[[int, str], None],
    ) -> None:
        self._settings = settings
        self._on_end = on_end
        self._on_queue_broken = on_queue_broken
        self._loop = asyncio.get_running_loop()
        self._requests = itertools.count(1)
        self._pending: deque[_Pending] = deque()  # answered in this order
        self._deadline: asyncio.TimerHandle | None = None  # of READY, then of the oldest request
        self._breakable = 0  # queues it was given and has not yet called broken
        self._failure: e.FuriosaError | None = None
        self._ended = False  # by `end`
        self._blame: str | None = None  # why we killed it
        self._started = False
        self._look: asyncio.TimerHandle | None = None  # at the run in progress
        self._final: Counters | None = None  # what it had counted when it was gone
        self.file = file
        self.lacks: tuple[str, ...] = ()
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self.ready.add_done_callback(_seen)
        with contextlib.ExitStack() as passed_on, contextlib.ExitStack() as kept:
            ours, theirs = map(kept.enter_context, socket.socketpair())
            passed_on.enter_context(theirs)
            page = counters.create_page()
            passed_on.callback(os.close, page)
            said, says = os.pipe()
            passed_on.callback(os.close, says)
            kept.callback(os.close, said)
            self._counters = CountersPage(page)
            self._process = spawner.spawn(
                str(file), cpus, (theirs.fileno(), page, says), self._spawned, self._exited
            )
            kept.pop_all()
        self._stderr = Stderr(said, str(file))
        self._link = Link(ours, messages.FROM_WORKER, self._message, self._link_ended)

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def check(self) -> None:
        """Raises: why this worker can no longer be used, if it cannot."""
        if self._failure is not None:
            raise self._failure

    def counters(self) -> Counters:
        """Also when it is gone."""
        return self._counters.read(time.monotonic_ns()) if self._final is None else self._final

    def end(self, failure: e.FuriosaError) -> None:
        """Kill it; whoever waits for it gets `failure` at once."""
        if self._failure is None:
            self._ended = True
            self._fail(failure)
        self._process.kill()

    # Requests. The futures are the caller's to wait for or to drop.

    def load(self, program: int, enf: int, traced: bool) -> "asyncio.Future[Loaded]":
        """`enf` is a memfd, and stays yours."""
        timeout = self._settings.load_timeout
        return self._request(lambda n: Load(n, program, traced), Loaded, timeout, (enf,))

    def unload(self, program: int) -> "asyncio.Future[Done]":
        """No error for a program that was never loaded."""
        return self._request(lambda n: Unload(n, program), Done)

    def attach(
        self, queue: int, geometry: Geometry, descriptors: Descriptors
    ) -> "asyncio.Future[Done]":
        """`descriptors` stay yours."""
        self._breakable += 1
        return self._request(
            lambda n: Attach(n, queue, geometry.depth, geometry.arena_bytes),
            Done,
            descriptors=descriptors.as_tuple(),
        )

    def detach(self, queue: int) -> "asyncio.Future[Done]":
        return self._request(lambda n: Detach(n, queue), Done)

    def inject(self, faults: Inject) -> "asyncio.Future[Done]":
        """`faults.request` may be anything."""
        return self._request(lambda n: dataclasses.replace(faults, request=n), Done)

    def _request(
        self,
        make: Callable[[int], Load | Unload | Attach | Detach | Inject],
        answer: type[Message],
        timeout: float | None = None,
        descriptors: Sequence[int] = (),
    ) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = self._loop.create_future()
        future.add_done_callback(_seen)
        if self._failure is not None:
            future.set_exception(self._failure)
            return future
        message = make(next(self._requests))
        seconds = self._settings.request_timeout if timeout is None else timeout
        self._link.send(message, descriptors)
        self._pending.append(
            _Pending(message.request, type(message).__name__, answer, seconds, future)
        )
        if len(self._pending) == 1 and self.ready.done():
            self._await_oldest()
        return future

    def _await_oldest(self) -> None:
        """A request's time runs from when the worker could turn to it; until READY, that has its own."""
        self._stop_clock()
        if self._pending:
            oldest = self._pending[0]
            complaint = f"no answer to {oldest.name} within {oldest.seconds:g} s"
            self._deadline = self._loop.call_later(oldest.seconds, self._kill, complaint)

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    # Events

    def _spawned(self) -> None:
        if not self.ready.done():
            seconds = self._settings.ready_timeout
            self._deadline = self._loop.call_later(
                seconds, self._kill, f"not READY in {seconds:g} s"
            )

    def _message(self, message: Message, descriptors: tuple[int, ...]) -> None:
        if isinstance(message, Started):
            self._process.watch(descriptors[0])
            if self._started:
                raise BadMessage("STARTED twice")
            self._started = True
        elif not self._started:
            raise BadMessage(f"{type(message).__name__} before STARTED")
        if self._failure is not None:
            return  # it is being killed and does not know yet
        match message:
            case Ready(lacks):
                if self.ready.done():
                    raise BadMessage("READY twice")
                self.lacks = lacks
                self.ready.set_result(None)
                self._await_oldest()
                self._look_at_run()
            case QueueBroken(queue, cause):
                if not self._breakable:
                    raise BadMessage("more queues are broken than it ever had")
                self._breakable -= 1
                self._on_queue_broken(queue, cause)
            case Loaded() | Done() | Refused():
                self._answered(message)

    def _answered(self, message: Loaded | Done | Refused) -> None:
        if not self._pending or self._pending[0].request != message.request:
            raise BadMessage(f"an answer to request {message.request}, which is not the oldest")
        oldest = self._pending[0]
        if not isinstance(message, oldest.answer | Refused):
            raise BadMessage(f"{type(message).__name__}, expected {oldest.answer.__name__}")
        self._pending.popleft()
        self._await_oldest()
        if oldest.future.done():
            return  # cancelled by who asked
        if isinstance(message, Refused):
            error = message.error
            if not isinstance(error, REFUSALS):
                error = e.InternalError(f"the worker of {self.file} refused with: {error}")
            oldest.future.set_exception(error)
        else:
            oldest.future.set_result(message)

    def _look_at_run(self) -> None:
        """Who floods a queue hurts himself only, but one run that never ends would say nothing to him."""
        seconds = self._settings.run_timeout
        left = seconds - self._counters.running_ns(time.monotonic_ns()) / 1e9
        if left <= 0:
            self._kill(f"one run took longer than {seconds:g} s")
        else:
            self._look = self._loop.call_later(min(left, seconds / LOOKS), self._look_at_run)

    def _link_ended(self, reason: str | None) -> None:
        if reason is not None and not self._started:
            reason = f"its pidfd did not arrive: {reason}"
        self._kill(reason)

    def _kill(self, blame: str | None) -> None:
        """None: it let go of us, most likely because it is dead; its exit tells."""
        if blame is not None and self._blame is None:
            self._blame = blame
            _log.warning("worker of %s (pid %s) is killed: %s", self.file, self.pid, blame)
        self._process.kill()

    def _exited(self, cause: str) -> None:
        cause = self._blame or cause
        self._link.close()
        self._stderr.close()
        self._final = self.counters()
        self._counters.close()
        if self._failure is None:
            self._fail(e.WorkerDied(str(self.file), cause))
        self._on_end(None if self._ended else cause)

    def _fail(self, failure: e.FuriosaError) -> None:
        self._failure = failure
        self._stop_clock()
        if self._look is not None:
            self._look.cancel()
        for future in (self.ready, *(pending.future for pending in self._pending)):
            if not future.done():
                future.set_exception(failure)
        self._pending.clear()


def _seen(future: "asyncio.Future[Any]") -> None:
    """A failure nobody waits for any more is no reason for asyncio to complain."""
    if not future.cancelled():
        future.exception()
