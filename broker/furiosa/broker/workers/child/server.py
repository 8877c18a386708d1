"""The loop of a worker: requests of the broker and runs of its client's queues, in one thread.

Queues take turns, one run each; the broker's requests are looked at between any two runs.
"""

import contextlib
import fcntl
import logging
import os
import secrets
import select
import socket
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from furiosa.broker.workers import linux, messages
from furiosa.broker.workers.child.injection import Injection
from furiosa.broker.workers.child.program import LoadedProgram, Loader
from furiosa.broker.workers.child.served import ServedQueue
from furiosa.broker.workers.counters import CountersPage
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
    Unload,
)
from furiosa.broker.workers.settings import WorkerSettings
from furiosa.common import channel
from furiosa.common.errors import FuriosaError, InternalError, InvalidProgram, LimitExceeded
from furiosa.queuepair import BrokenQueue, Descriptors, Geometry, WorkerQueue
from furiosa.queuepair.spin import Spin

_log = logging.getLogger(__name__)
# How long to look for more work before sleeping: with this a client that asks again at once has its
# answer in 50 us instead of 90.
SPIN_NS: Final = 100_000


def read_program(fd: int, limit: int) -> bytes:
    """A copy of all that a client's memfd holds; a map could change while it is being checked.

    Raises: LimitExceeded; InvalidProgram when `fd` is no memfd: reading anything else might wait.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        raise InvalidProgram("descriptor", "the descriptor that came with it is no memfd") from None
    size = os.fstat(fd).st_size
    if size > limit:
        raise LimitExceeded("enf_bytes", size, limit)
    content = os.pread(fd, size, 0)
    while len(content) < size and (rest := os.pread(fd, size - len(content), len(content))):
        content += rest
    return content


class Server:
    """Takes `control`. `pes` is how many PEs this worker stands for."""

    def __init__(
        self,
        control: socket.socket,
        counters: CountersPage,
        pes: int,
        settings: WorkerSettings,
        load: Loader,
    ) -> None:
        self._control = control
        self._counters = counters
        self._pes = pes
        self._settings = settings
        self._load_program = load
        self._decoder = channel.Decoder(messages.MAX_PAYLOAD)
        self._programs: dict[int, LoadedProgram] = {}
        self._queues: dict[int, ServedQueue] = {}
        self._by_fd: dict[int, int] = {}  # submission doorbell to queue
        self._ready: deque[int] = deque()  # queues with runs taken and not yet made, next one first
        self._injection: Injection | None = None
        self._poll = select.epoll()
        self._spin = Spin()
        self._poll.register(control, select.EPOLLIN)

    def serve(self, lacks: tuple[str, ...] = ()) -> None:
        """Until the broker closes the control socket. `lacks` is for READY."""
        self._send(Ready(lacks))
        control = self._control.fileno()
        while True:
            for fd, _ in self._events():
                if fd != control:
                    self._take(fd)
                elif not self._receive():
                    return
            if self._ready:
                self._run(self._ready.popleft())

    def _events(self) -> list[tuple[int, int]]:
        """Ready descriptors; waits for one unless there are runs to make."""
        if self._ready:
            return self._poll.poll(0)
        return self._spin.look(self._poll.poll, SPIN_NS) or self._poll.poll()

    def close(self) -> None:
        for queue in tuple(self._queues):
            self._drop(queue)
        for program in tuple(self._programs):
            self._programs.pop(program).engine.close()
        self._poll.close()
        self._control.close()
        self._decoder.close()

    # Runs

    def _take(self, fd: int) -> None:
        queue = self._by_fd.get(fd)
        if queue is None:  # dropped by an event of the same round
            return
        try:
            if self._queues[queue].take() and queue not in self._ready:
                self._ready.append(queue)
        except BrokenQueue as error:
            self._broken(queue, error)

    def _run(self, queue: int) -> None:
        try:
            if self._queues[queue].run_one():
                self._ready.append(queue)
        except BrokenQueue as error:
            self._broken(queue, error)

    def _broken(self, queue: int, error: BrokenQueue) -> None:
        self._drop(queue)
        self._send(QueueBroken(queue, str(error)))

    def _drop(self, queue: int) -> None:
        served = self._queues.pop(queue, None)
        if served is None:
            return
        self._poll.unregister(served.submission_fd)
        del self._by_fd[served.submission_fd]
        with contextlib.suppress(ValueError):
            self._ready.remove(queue)
        served.close()

    # Requests

    def _send(self, message: Message) -> None:
        self._control.sendall(channel.encode(messages.encode(message)))

    def _receive(self) -> bool:
        """False at the end of the socket."""
        data, descriptors = channel.receive(self._control)
        if not data:
            return False
        self._decoder.feed(data, descriptors)
        for item in self._decoder.messages():
            request = messages.parse(item.payload, messages.TO_WORKER, len(item.descriptors))
            self._send(
                self._answer(cast("Load | Unload | Attach | Detach | Inject", request), item)
            )
        return True

    def _answer(
        self, request: Load | Unload | Attach | Detach | Inject, item: channel.Message
    ) -> Message:
        try:
            return _HANDLERS[type(request)](self, request, item)
        except FuriosaError as error:
            return Refused.of(request.request, error)
        except Exception:
            reference = secrets.token_hex(4)
            _log.exception("internal error %s in %s", reference, request)
            return Refused.of(request.request, InternalError(reference))

    def _load(self, request: Load, item: channel.Message) -> Message:
        try:
            content = read_program(item.descriptors[0], self._settings.max_enf_bytes)
        finally:
            item.close()
        enf_bytes = len(content)
        program = self._load_program(content, self._pes, request.traced, self._admit)
        del content
        linux.trim_heap()  # what loading needed is several times as much as what the program keeps
        answer = Loaded(
            request.request,
            program.target,
            program.inputs.specs,
            program.outputs.specs,
            enf_bytes,
        )
        try:
            payload = messages.encode(answer)
            messages.parse(payload, (Loaded,), 0)  # else the broker would take us for broken
            if len(payload) > messages.MAX_PAYLOAD:
                raise BadMessage(f"{len(payload)} bytes")
        except BadMessage as error:
            program.engine.close()
            raise InvalidProgram("description", str(error)) from None
        self._programs[request.program] = program
        return answer

    def _admit(self, asked: int) -> None:
        """Raises: LimitExceeded when so much device memory is not free beside the programs loaded."""
        held = {number: program.memory_bytes for number, program in self._programs.items()}
        used, limit = sum(held.values()), self._settings.memory_bytes
        if used + asked > limit:
            loaded = ", ".join(f"program {number} with {size}" for number, size in held.items())
            raise LimitExceeded(
                f"device memory in bytes (this program asks for {asked}, {max(limit - used, 0)} are "
                f"free beside {loaded or 'no other program'})",
                used + asked,
                limit,
            )

    def _unload(self, request: Unload, _: channel.Message) -> Message:
        program = self._programs.pop(request.program, None)
        if program is not None:
            for queue in self._queues.values():
                queue.forget(request.program)
            program.engine.close()
            del program
            linux.trim_heap()
        return Done(request.request)

    def _attach(self, request: Attach, item: channel.Message) -> Message:
        descriptors = Descriptors.of(item.descriptors)
        queue = WorkerQueue.attach(descriptors, Geometry(request.depth, request.arena_bytes))
        served = ServedQueue(queue, self._programs, self._counters, self._settings.max_bindings)
        served.injection = self._injection
        self._queues[request.queue] = served
        self._by_fd[served.submission_fd] = request.queue
        self._poll.register(served.submission_fd, select.EPOLLIN)
        return Done(request.request)

    def _detach(self, request: Detach, _: channel.Message) -> Message:
        self._drop(request.queue)
        return Done(request.request)

    def _inject(self, request: Inject, _: channel.Message) -> Message:
        self._injection = Injection.of(request)
        for queue in self._queues.values():
            queue.injection = self._injection
        return Done(request.request)


_HANDLERS: Final[Mapping[type, Callable[[Server, Any, channel.Message], Message]]] = {
    Load: Server._load,
    Unload: Server._unload,
    Attach: Server._attach,
    Detach: Server._detach,
    Inject: Server._inject,
}
