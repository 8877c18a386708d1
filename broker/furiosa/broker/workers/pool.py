"""The workers behind leased device files: programs, queues and counters, and an end to all of it.

Nothing here awaits between reading and changing the same state. Awaits are for answers of workers, and
after each the worker is checked anew: its lease may have ended meanwhile.
"""

import asyncio
import itertools
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from furiosa.broker.log import event
from furiosa.broker.workers.counters import Counters, Errors
from furiosa.broker.workers.messages import Inject, Loaded
from furiosa.broker.workers.settings import WorkerSettings
from furiosa.broker.workers.spawner import Spawner
from furiosa.broker.workers.worker import Worker
from furiosa.common.errors import (
    BrokerDraining,
    FuriosaError,
    InvalidProgram,
    LeaseEnded,
    LimitExceeded,
    UnknownProgram,
)
from furiosa.common.names import DeviceFile
from furiosa.common.views import ProgramView
from furiosa.queuepair import Descriptors, Geometry
from furiosa.queuepair.layout import create

__all__ = ["Counters", "Errors", "OnDeath", "WorkerPool", "WorkerSettings"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

STOP_SECONDS: Final = 10.0  # for the kernel to end processes that were killed
OnDeath = Callable[[str, DeviceFile, str], None]  # lease id, device file, cause
FaultsOf = Callable[[DeviceFile], Inject | None]  # None: there are none
WELL: Final = Inject(0, hang=0, failures=0, every=1, delay_ns=0)


@dataclass(slots=True)
class _Program:
    view: ProgramView
    workers: list[Worker]  # in the order of the lease's files


@dataclass(frozen=True, slots=True)
class _Queue:
    worker: Worker
    arena_bytes: int


@dataclass(slots=True)
class _Lease:
    id: str
    workers: dict[DeviceFile, Worker] = field(default_factory=dict)
    programs: dict[int, _Program] = field(default_factory=dict)
    queues: dict[int, _Queue] = field(default_factory=dict)
    program_ids: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    queue_ids: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    loading: int = 0
    failure: FuriosaError | None = None  # set once the lease is released
    on_stopped: list[Callable[[], None]] = field(default_factory=list)


class WorkerPool:
    """Workers of one broker; to be used from one running event loop.

    `on_death` is called in the loop when a worker ends that was not told to; its programs and queues
    are forgotten by then, and the next `load` of the lease starts another.
    Raises: ValueError for settings that name no user.
    """

    def __init__(self, settings: WorkerSettings, *, on_death: OnDeath) -> None:
        if os.geteuid() == 0:
            settings.identity()
        self._settings = settings
        self._on_death = on_death
        self._spawner = Spawner(settings)
        self._cpus = settings.cpus or tuple(sorted(os.sched_getaffinity(0)))
        self._leases: dict[str, _Lease] = {}
        self._by_file: dict[DeviceFile, Worker] = {}
        self._arena_bytes = 0  # of all queues
        self._errors: defaultdict[DeviceFile, Errors] = defaultdict(
            Errors
        )  # beside those of workers
        self._faults: FaultsOf = lambda file: None
        self.lacks: tuple[str, ...] = ()  # as last logged
        self._draining = False

    async def start(self) -> None:
        """For the main thread. Raises: RuntimeError when no worker could ever be started here."""
        await self._spawner.start()

    async def stop(self) -> None:
        """End all workers and the zygote; pending calls fail with LeaseEnded. Bounded."""
        self._draining = True
        stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = len(self._leases)

        def one_stopped() -> None:
            nonlocal waiting
            waiting -= 1
            if waiting == 0:
                stopped.set_result(None)

        for lease_id in tuple(self._leases):
            self.release(lease_id, one_stopped)
        if self._leases:
            await asyncio.wait([stopped], timeout=STOP_SECONDS)
        await self._spawner.stop()

    async def load(
        self, lease_id: str, files: Sequence[DeviceFile], enf_fd: int, *, traced: bool = False
    ) -> ProgramView:
        """Load the ENF in a memfd onto every file of the lease, or onto none.

        `traced`: its runs measure their steps, in a further output.
        Owns: `enf_fd` stays yours; it is read until this returns.
        Raises: InvalidProgram, UnsupportedProgram, LimitExceeded; WorkerDied; LeaseEnded; InternalError.
        """
        lease = self._lease(lease_id)
        used = len(lease.programs) + lease.loading
        if used >= self._settings.max_programs:
            raise LimitExceeded("programs of a lease", used + 1, self._settings.max_programs)
        program_id = next(lease.program_ids)
        workers = [self._worker(lease, file) for file in files]
        lease.loading += 1
        try:
            await self._ready(workers)
            answers = await _all([worker.load(program_id, enf_fd, traced) for worker in workers])
            for worker in workers:
                worker.check()
            view = _view(lease_id, program_id, answers)
        except BaseException:
            for worker in workers:
                worker.unload(program_id)  # which may or may not have been loaded
            raise
        finally:
            lease.loading -= 1
        lease.programs[program_id] = _Program(view, workers)
        return view

    async def unload(self, lease_id: str, program_id: int) -> None:
        """Raises: UnknownProgram; WorkerDied; LeaseEnded."""
        lease = self._leases.get(lease_id)
        program = None if lease is None else lease.programs.pop(program_id, None)
        if program is None:
            raise UnknownProgram(lease_id, program_id)
        await _all([worker.unload(program_id) for worker in program.workers])

    def describe(self, lease_id: str, program_id: int) -> ProgramView:
        """Raises: UnknownProgram."""
        lease = self._leases.get(lease_id)
        if lease is None or program_id not in lease.programs:
            raise UnknownProgram(lease_id, program_id)
        return lease.programs[program_id].view

    def program_files(self, lease_id: str, program_id: int) -> tuple[DeviceFile, ...]:
        """Where the program is loaded: on every file of its lease but those whose worker died since.

        Raises: UnknownProgram.
        """
        self.describe(lease_id, program_id)
        workers = self._leases[lease_id].programs[program_id].workers
        return tuple(worker.file for worker in workers)

    async def open_queue(
        self, lease_id: str, file: DeviceFile, geometry: Geometry
    ) -> tuple[int, Descriptors]:
        """A queue pair whose other end the worker of `file` serves from now on.

        Owns: the descriptors are yours to pass on and close. The id is unique within the lease.
        Raises: LimitExceeded; WorkerDied; LeaseEnded; InternalError.
        """
        lease = self._lease(lease_id)
        worker = self._worker(lease, file)
        self._check_room(lease, worker, geometry.arena_bytes)
        queue_id = next(lease.queue_ids)
        descriptors = create(geometry)
        lease.queues[queue_id] = _Queue(worker, geometry.arena_bytes)
        self._arena_bytes += geometry.arena_bytes
        try:
            await self._ready([worker])
            await _all([worker.attach(queue_id, geometry, descriptors)])
            worker.check()
            if queue_id not in lease.queues:  # by `detach_queues`, before the worker had it
                raise LeaseEnded(lease_id, "it has left its client")
        except BaseException:
            descriptors.close()
            self._forget(lease, queue_id)
            worker.detach(queue_id)
            raise
        return queue_id, descriptors

    def _check_room(self, lease: _Lease, worker: Worker, arena_bytes: int) -> None:
        """Raises: LimitExceeded."""
        queues, settings = lease.queues.values(), self._settings
        of_lease = sum(queue.arena_bytes for queue in queues) + arena_bytes
        in_all = self._arena_bytes + arena_bytes
        for what, value, limit in (
            (
                "queues of a device file",
                sum(queue.worker is worker for queue in queues) + 1,
                settings.max_queues,
            ),
            ("arenas of a lease in bytes", of_lease, settings.max_lease_arena_bytes),
            ("arenas of all leases in bytes", in_all, settings.max_total_arena_bytes),
        ):
            if value > limit:
                raise LimitExceeded(what, value, limit)

    async def close_queue(self, lease_id: str, queue_id: int) -> None:
        """A queue that is gone already is no error: its client may have broken it just now."""
        lease = self._leases.get(lease_id)
        worker = None if lease is None else self._forget(lease, queue_id)
        if worker is not None:
            await _all([worker.detach(queue_id)])

    def detach_queues(self, lease_id: str) -> None:
        """Close all queues of a lease whose owner's connection is gone; its programs stay loaded.

        Their workers let go of them after the run they are in.
        """
        if (lease := self._leases.get(lease_id)) is not None:
            for queue_id in tuple(lease.queues):
                worker = self._forget(lease, queue_id)
                assert worker is not None
                worker.detach(queue_id)

    def _forget(self, lease: _Lease, queue_id: int) -> Worker | None:
        """The worker that served the queue; None when it is gone already."""
        queue = lease.queues.pop(queue_id, None)
        if queue is None:
            return None
        self._arena_bytes -= queue.arena_bytes
        return queue.worker

    def release(self, lease_id: str, on_stopped: Callable[[], None]) -> None:
        """Kill the lease's workers at once; pending calls of the lease fail with LeaseEnded.

        `on_stopped` is called in the loop when the last one is dead and reaped; before this returns if
        there is none.
        """
        lease = self._leases.get(lease_id)
        if lease is None or not lease.workers:
            self._leases.pop(lease_id, None)
            on_stopped()
            return
        lease.on_stopped.append(on_stopped)
        if lease.failure is None:
            lease.failure = LeaseEnded(lease_id, "it was released")
            for worker in lease.workers.values():
                worker.end(lease.failure)

    def running(self) -> tuple[tuple[str, DeviceFile], ...]:
        """Lease and device file of each worker."""
        return tuple((lease.id, file) for lease in self._leases.values() for file in lease.workers)

    def counters(self, file: DeviceFile) -> Counters | None:
        """What the file's worker measured since it started; None when there is no worker."""
        worker = self._by_file.get(file)
        return None if worker is None else worker.counters()

    def errors(self) -> Mapping[DeviceFile, Errors]:
        """What went wrong since this pool began, of every file that ever had a worker."""
        errors = dict(self._errors)
        for file, worker in self._by_file.items():
            errors[file] = errors.get(file, Errors()) + worker.counters().errors
        return errors

    def inject(self, faults: FaultsOf) -> None:
        """From their next run on workers suffer from `faults` of their file: those there are, and those
        to come.
        """
        self._faults = faults
        for file, worker in self._by_file.items():
            worker.inject(faults(file) or WELL)

    async def _ready(self, workers: Sequence[Worker]) -> None:
        await _all([worker.ready for worker in workers])
        for worker in workers:
            if worker.lacks != self.lacks:  # most likely the same for all: said once
                self.lacks = worker.lacks
                event(
                    _log, "worker.lacks", logging.WARNING, what=", ".join(worker.lacks) or "nothing"
                )

    def _lease(self, lease_id: str) -> _Lease:
        """Raises: LeaseEnded; BrokerDraining."""
        if self._draining:
            raise BrokerDraining
        lease = self._leases.setdefault(lease_id, _Lease(lease_id))
        if lease.failure is not None:
            raise lease.failure
        return lease

    def _worker(self, lease: _Lease, file: DeviceFile) -> Worker:
        worker = lease.workers.get(file)
        if worker is None:
            worker = Worker(
                self._spawner,
                self._settings,
                file,
                self._placed(file),
                lambda cause: self._ended(lease, file, cause),
                lambda queue, cause: self._queue_broken(lease, file, queue, cause),
            )
            lease.workers[file] = worker
            self._by_file[file] = worker
            if (faults := self._faults(file)) is not None:
                worker.inject(faults)
        return worker

    def _placed(self, file: DeviceFile) -> tuple[int, ...]:
        """The CPU of each of the file's PEs; neighbours get different ones while there are enough."""
        per_card = self._settings.cores_per_card
        cores = range(file.cores.first, min(file.cores.last + 1, per_card))
        return tuple(self._cpus[(file.npu * per_card + core) % len(self._cpus)] for core in cores)

    def _queue_broken(self, lease: _Lease, file: DeviceFile, queue: int, cause: str) -> None:
        served = lease.queues.get(queue)
        if served is not None and served.worker is lease.workers[file]:  # else closed meanwhile
            self._forget(lease, queue)
            self._errors[file] += Errors(discarded=1)
            _log.warning("lease %s: queue %d of %s is broken: %s", lease.id, queue, file, cause)

    def _ended(self, lease: _Lease, file: DeviceFile, cause: str | None) -> None:
        worker = lease.workers.pop(file)
        self._errors[file] += worker.counters().errors + Errors(device=cause is not None)
        if self._by_file.get(file) is worker:
            del self._by_file[file]
        for number in [n for n, program in lease.programs.items() if worker in program.workers]:
            lease.programs[number].workers.remove(worker)
            if not lease.programs[number].workers:
                del lease.programs[number]
        for number in [n for n, queue in lease.queues.items() if queue.worker is worker]:
            self._forget(lease, number)
        if lease.failure is not None and not lease.workers:
            self._leases.pop(lease.id, None)
            for on_stopped in lease.on_stopped:
                on_stopped()
        if cause is not None:
            self._on_death(lease.id, file, cause)


def _view(lease_id: str, program_id: int, answers: Sequence[Loaded]) -> ProgramView:
    first = answers[0]
    for answer in answers:
        if (answer.target, answer.inputs, answer.outputs, answer.enf_bytes) != (
            first.target,
            first.inputs,
            first.outputs,
            first.enf_bytes,
        ):
            raise InvalidProgram("stable", "the file changed while it was being loaded")
    return ProgramView(
        program_id, lease_id, first.target, first.inputs, first.outputs, first.enf_bytes
    )


async def _all(futures: "Sequence[asyncio.Future[_T]]") -> list[_T]:
    """Their results once all are done; raises the first failure in order, and cancels none of them."""
    await asyncio.wait(futures)
    return [future.result() for future in futures]
