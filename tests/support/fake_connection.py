"""A broker inside the test: the Connection API over real queue pairs, each served by a thread.

`FakeNpu` is what the test steers: it holds completions back, kills workers, ends the lease, dies and
comes back. Its connections come in both styles, `AsyncFakeConnection` for the asynchronous twin.
"""

import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import numpy as np
import numpy.typing as npt

from furiosa.common.errors import (
    BrokerUnavailable,
    DeviceBusy,
    FuriosaError,
    LeaseEnded,
    UnknownProgram,
    WorkerDied,
)
from furiosa.common.names import DeviceFile
from furiosa.common.selector import DeviceSpec
from furiosa.common.tensor import DType, TensorSpec
from furiosa.common.views import (
    LeaseEndedNotice,
    LeaseNotice,
    LeaseRecalledNotice,
    LeaseState,
    LeaseView,
    OwnerView,
    ProgramView,
    WorkerDiedNotice,
)
from furiosa.queuepair import (
    Completion,
    CompletionStatus,
    Descriptors,
    Geometry,
    Submission,
    WorkerQueue,
    create,
    tensor_offsets,
)

Array = npt.NDArray[Any]
Function = Callable[[list[Array]], list[Array]]

X = TensorSpec("x", DType.FLOAT32, (1, 1, 28, 28))
Y = TensorSpec("y", DType.FLOAT32, (1, 1, 28, 28))


def doubled(inputs: list[Array]) -> list[Array]:
    return [array * 2 for array in inputs]


@dataclass
class FakeNpu:
    """Steers the connections made by `connect`. Close it: it has threads."""

    files: tuple[str, ...] = ("npu0pe0-1",)
    inputs: tuple[TensorSpec, ...] = (X,)
    outputs: tuple[TensorSpec, ...] = (Y,)
    function: Function = doubled
    busy: bool = False
    waits: list[float | None] = field(default_factory=list)  # the limit of each acquisition
    acquired: list[str] = field(default_factory=list)
    loaded: list[bytes] = field(default_factory=list)
    unloaded: list[int] = field(default_factory=list)
    queues_closed: list[int] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    opened: int = 0
    hung_up: int = 0
    lease_id: str = "lease-1"
    reopened: int = 0  # attempts, in vain or not
    resumed: list[str] = field(default_factory=list)  # likewise
    resume_error: FuriosaError | None = None
    acquire_error: FuriosaError | None = None
    before_resume_answers: Callable[[], None] = lambda: None
    no_queue_on: str = ""  # a device file
    load_error: FuriosaError | None = None
    before_load_answers: Callable[[], None] = lambda: None
    status: CompletionStatus = CompletionStatus.OK
    answer_to: Callable[[int], int] = lambda number: number  # the run that a completion names

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        self.changed = threading.Condition()  # of the next two
        self.taken = 0
        self.seen: list[Submission] = []
        self.go = threading.Event()  # completions are held back while it is clear
        self.go.set()
        self.notices: list[LeaseNotice] = []
        self.bells = [os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)]  # of each life
        self.dead: BrokerUnavailable | None = None
        self.ended: LeaseEnded | None = None
        self.programs: set[int] = set()
        self.servers: dict[int, Server] = {}
        self.finished: list[Server] = []
        self.numbers = iter(range(1, 1 << 30))

    @property
    def bell(self) -> int:
        return self.bells[-1]

    @property
    def lease(self) -> LeaseView:
        files = tuple(map(DeviceFile.parse, self.files))
        return LeaseView(
            self.lease_id, files, LeaseState.GRANTED, OwnerView(1, 0, 0, 0, "test"), 0.0
        )

    def connect(self) -> "FakeConnection":
        return FakeConnection(self)

    def hold(self) -> None:
        self.go.clear()

    def kill_worker(self, file: str | None = None, cause: str = "killed by signal 9") -> None:
        file = file or self.files[0]
        with self.lock:
            self.programs.clear()
            self._stop([n for n, s in self.servers.items() if str(s.file) == file])
            self._notify(WorkerDiedNotice(self.lease_id, DeviceFile.parse(file), cause))

    def let_go(self) -> None:
        """Workers drop their queues, and only the queues tell."""
        with self.lock:
            self._stop(list(self.servers), politely=True)

    def end_lease(self, cause: str = "revoked by an administrator") -> None:
        with self.lock:
            self.ended = LeaseEnded(self.lease_id, cause)
            self._stop(list(self.servers))
            self._notify(LeaseEndedNotice(self.lease_id, cause))

    def recall_lease(self, cause: str = "maintenance", grace: float = 10.0) -> None:
        with self.lock:
            self._notify(LeaseRecalledNotice(self.lease_id, cause, grace, LeaseState.RECALLED))

    def take_back(self) -> None:
        """What was on the devices of a lease that has ended."""
        with self.lock:
            self.programs.clear()
            self._stop(list(self.servers))

    def die(self) -> None:
        with self.lock:
            self.dead = BrokerUnavailable("unix:/fake", "it closed the connection")
            self._stop(list(self.servers))
            os.eventfd_write(self.bell, 1)

    def come_back(self) -> None:
        """A broker that knows the lease, unless it has a `resume_error`; and no programs."""
        with self.lock:
            self.bells.append(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
            self.notices.clear()
            self.programs.clear()
            self.dead = self.ended = None
            self.numbers = iter(range(1, 1 << 30))

    def restart(self) -> None:
        self.die()
        self.come_back()

    def wait_until_taken(self, count: int) -> None:
        """Until the workers have this many runs that they have not completed."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.taken >= count, timeout=10)

    def close(self) -> None:
        self.go.set()
        with self.lock:
            self._stop(list(self.servers))
        self.reap()
        for bell in self.bells:
            os.close(bell)

    def reap(self) -> None:
        """What is left of workers that have ended."""
        while self.finished:
            self.finished.pop().reap()

    def _stop(self, numbers: Sequence[int], politely: bool = False) -> None:
        for number in numbers:
            server = self.servers.pop(number)
            server.stop(politely)
            self.finished.append(server)

    def _notify(self, notice: LeaseNotice) -> None:
        self.notices.append(notice)
        os.eventfd_write(self.bell, 1)


class Server(threading.Thread):
    """The worker's end of one queue."""

    def __init__(self, npu: FakeNpu, file: DeviceFile, descriptors: Descriptors) -> None:
        super().__init__(name=f"worker of {file}")
        self._npu = npu
        self.file = file
        self._queue = WorkerQueue.attach(descriptors)
        self._stop_fd = os.eventfd(0, os.EFD_CLOEXEC)
        self._stopping = False
        self._politely = False

    def stop(self, politely: bool = False) -> None:
        self._politely = politely
        self._stopping = True
        os.eventfd_write(self._stop_fd, 1)

    def reap(self) -> None:
        self.join()
        os.close(self._stop_fd)

    def run(self) -> None:
        poll = select.poll()
        poll.register(self._stop_fd, select.POLLIN)
        poll.register(self._queue.submission_fd, select.POLLIN)
        while True:
            poll.poll()
            if self._stopping:
                break
            for submission in self._queue.take():
                self._note(1, submission)
                while not self._npu.go.wait(0.01) and not self._stopping:
                    pass
                self._note(-1)
                if self._stopping:
                    break
                self._serve(submission)
        if self._politely:
            self._queue.close()
        else:
            super(WorkerQueue, self._queue).close()  # a dead process says no farewell

    def _note(self, more: int, submission: Submission | None = None) -> None:
        with self._npu.changed:
            self._npu.taken += more
            if submission is not None:
                self._npu.seen.append(submission)
            self._npu.changed.notify_all()

    def _serve(self, submission: Submission) -> None:
        inputs = self._views(self._npu.inputs, submission.input_offset)
        if self._npu.status is CompletionStatus.OK:
            results = self._npu.function(inputs)
            outputs = self._views(self._npu.outputs, submission.output_offset)
            for view, result in zip(outputs, results, strict=True):
                view[...] = result
        self._queue.complete(Completion(self._npu.answer_to(submission.id), self._npu.status))

    def _views(self, specs: Sequence[TensorSpec], base: int) -> list[Array]:
        offsets, _ = tensor_offsets([spec.nbytes for spec in specs])
        return [
            np.ndarray(spec.shape, spec.dtype.numpy, self._queue.arena.data, base + offset)
            for offset, spec in zip(offsets, specs, strict=True)
        ]


class FakeConnection:
    """As `furiosa.client.sync.Connection`, as far as the runtime uses it."""

    def __init__(self, npu: FakeNpu) -> None:
        self._npu = npu
        self._bell = npu.bell
        self._closed = False

    @property
    def gone(self) -> BrokerUnavailable | None:
        if self._closed:
            return BrokerUnavailable("unix:/fake", "this connection was closed")
        if self._bell != self._npu.bell:
            return BrokerUnavailable("unix:/fake", "it closed the connection")
        return self._npu.dead

    def check(self) -> None:
        gone = self.gone
        if gone is not None:
            raise gone
        if self._npu.ended is not None:
            raise self._npu.ended

    def reopen(self, *, client: str) -> "FakeConnection":
        self._npu.reopened += 1
        if self._npu.dead is not None:
            raise self._npu.dead
        return FakeConnection(self._npu)

    def resume(self, lease_id: str, secret: str = "") -> LeaseView:
        self._npu.resumed.append(lease_id)
        self._npu.before_resume_answers()
        self.check()
        if self._npu.resume_error is not None:
            raise self._npu.resume_error
        return self._npu.lease

    def acquire(
        self,
        spec: DeviceSpec,
        wait_limit: float | None = None,
        *,
        time_to_live: float | None = None,
    ) -> LeaseView:
        self._npu.waits.append(wait_limit)
        while not self.may_lease(spec, wait_limit):
            time.sleep(0)
        return self.lease(spec)

    def may_lease(self, spec: DeviceSpec, wait_limit: float | None) -> bool:
        """Whether who asks need not wait. Any limit but none is for ever."""
        self.check()
        if self._npu.acquire_error is not None:
            raise self._npu.acquire_error
        if self._npu.busy and not wait_limit:
            raise DeviceBusy(str(spec), "npu0pe0", 4711, "python other.py")
        return not self._npu.busy

    def lease(self, spec: DeviceSpec) -> LeaseView:
        self._npu.acquired.append(str(spec))
        return self._npu.lease

    def release(self, lease_id: str) -> None:
        self.check()
        self._npu.released.append(lease_id)
        self._npu.take_back()

    def load_program(self, lease_id: str, enf: bytes, *, traced: bool = False) -> ProgramView:
        npu = self._npu
        self.check()
        if npu.load_error is not None:
            raise npu.load_error
        npu.loaded.append(enf)
        program = ProgramView(
            next(npu.numbers), lease_id, "warboy-2pe", npu.inputs, npu.outputs, len(enf)
        )
        npu.before_load_answers()
        npu.programs.add(program.id)
        return program

    def unload_program(self, lease_id: str, program_id: int) -> None:
        self.check()
        if program_id not in self._npu.programs:
            raise UnknownProgram(lease_id, program_id)
        self._npu.programs.remove(program_id)
        self._npu.unloaded.append(program_id)

    def open_queue(
        self, lease_id: str, file: DeviceFile, geometry: Geometry
    ) -> tuple[int, Descriptors]:
        npu = self._npu
        self.check()
        if str(file) == npu.no_queue_on:
            raise WorkerDied(str(file), "no memory")
        descriptors = create(geometry)
        number = next(npu.numbers)
        server = Server(npu, file, Descriptors(*map(os.dup, descriptors.as_tuple())))
        with npu.lock:
            npu.servers[number] = server
        server.start()
        return number, descriptors

    def close_queue(self, lease_id: str, queue_id: int) -> None:
        self.check()
        with self._npu.lock:
            if queue_id in self._npu.servers:
                self._npu._stop([queue_id], politely=True)
        self._npu.queues_closed.append(queue_id)

    def wait(self, fds: Sequence[int], lease_id: str | None = None) -> None:
        poll = select.poll()
        for fd in (*fds, self._bell):
            poll.register(fd, select.POLLIN)
        poll.poll()
        if (gone := self.gone) is not None:
            raise gone

    def fileno(self) -> int:
        return self._bell

    def is_quiet(self, lease_id: str) -> bool:
        return self.gone is None and not self._npu.notices

    def take_notices(self, lease_id: str) -> list[LeaseNotice]:
        with self._npu.lock:
            taken, self._npu.notices = self._npu.notices, []
            if (gone := self.gone) is not None and not taken:
                raise gone
            if self._npu.dead is None and taken:
                os.eventfd_read(self._bell)
        return taken

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._npu.hung_up += 1
            self._npu.take_back()


class AsyncFakeConnection:
    """As `furiosa.client.Connection`, likewise."""

    def __init__(self, npu: FakeNpu) -> None:
        self._npu = npu
        self._blocking = FakeConnection(npu)

    async def reopen(self, *, client: str) -> "AsyncFakeConnection":
        await anyio.lowlevel.checkpoint()
        self._blocking.reopen(client=client)
        return AsyncFakeConnection(self._npu)

    async def resume(self, lease_id: str, secret: str = "") -> LeaseView:
        await anyio.lowlevel.checkpoint()
        return self._blocking.resume(lease_id, secret)

    async def acquire(
        self,
        spec: DeviceSpec,
        wait_limit: float | None = None,
        *,
        time_to_live: float | None = None,
    ) -> LeaseView:
        self._npu.waits.append(wait_limit)
        await anyio.lowlevel.checkpoint()
        while not self._blocking.may_lease(spec, wait_limit):
            await anyio.lowlevel.checkpoint()
        return self._blocking.lease(spec)

    async def release(self, lease_id: str) -> None:
        await anyio.lowlevel.checkpoint()
        self._blocking.release(lease_id)

    async def load_program(self, lease_id: str, enf: bytes, *, traced: bool = False) -> ProgramView:
        await anyio.lowlevel.checkpoint()
        return self._blocking.load_program(lease_id, enf, traced=traced)

    async def unload_program(self, lease_id: str, program_id: int) -> None:
        await anyio.lowlevel.checkpoint()
        self._blocking.unload_program(lease_id, program_id)

    async def open_queue(
        self, lease_id: str, file: DeviceFile, geometry: Geometry
    ) -> tuple[int, Descriptors]:
        await anyio.lowlevel.checkpoint()
        return self._blocking.open_queue(lease_id, file, geometry)

    async def close_queue(self, lease_id: str, queue_id: int) -> None:
        await anyio.lowlevel.checkpoint()
        self._blocking.close_queue(lease_id, queue_id)

    async def wait(self, fds: Sequence[int], lease_id: str | None = None) -> None:
        with select.epoll() as epoll:
            for fd in (*fds, self.fileno()):
                epoll.register(fd, select.EPOLLIN)
            await anyio.wait_readable(epoll.fileno())
        if (gone := self._blocking.gone) is not None:
            raise gone

    def fileno(self) -> int:
        return self._blocking.fileno()

    def is_quiet(self, lease_id: str) -> bool:
        return self._blocking.is_quiet(lease_id)

    def take_notices(self, lease_id: str) -> list[LeaseNotice]:
        return self._blocking.take_notices(lease_id)

    async def close(self) -> None:
        self._blocking.close()


@dataclass
class Opener:
    """`open` takes the place of `io.connect`."""

    npu: FakeNpu
    clients: list[str] = field(default_factory=list)

    def opened(self, client: str) -> None:
        if self.npu.dead is not None:
            raise self.npu.dead
        self.clients.append(client)
        self.npu.opened += 1


class FakeOpener(Opener):
    def open(self, *, client: str) -> FakeConnection:
        self.opened(client)
        return FakeConnection(self.npu)


class AsyncFakeOpener(Opener):
    async def open(self, *, client: str) -> AsyncFakeConnection:
        await anyio.lowlevel.checkpoint()
        self.opened(client)
        return AsyncFakeConnection(self.npu)
