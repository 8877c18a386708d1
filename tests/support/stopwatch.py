"""A load on one device file that keeps its own record of when the file was busy."""

import select
import threading
from pathlib import Path
from typing import Self

from furiosa.client.sync import Connection
from furiosa.common.names import DeviceFile
from furiosa.common.views import LeaseView, ProgramView
from furiosa.queuepair import ClientQueue, Completion, CompletionStatus, Geometry, Submission
from furiosa.queuepair.arena import tensor_offsets

WAIT_SECONDS = 60


class Load:
    """Runs of `program`, one after the other, from entering to leaving the context.

    `share` is what of the time it means to use: after each run it is idle for as long as that takes; at
    1.0 there is always a second run waiting behind the first. What it did use is in `busy`.
    """

    def __init__(
        self,
        connection: Connection,
        lease: LeaseView,
        program: ProgramView,
        file: DeviceFile,
        share: float,
    ) -> None:
        _, inputs = tensor_offsets([spec.nbytes for spec in program.inputs])
        _, outputs = tensor_offsets([spec.nbytes for spec in program.outputs])
        _, descriptors = connection.open_queue(lease.id, file, Geometry(4, inputs + outputs))
        self._queue = ClientQueue.attach(descriptors)
        self._program = program.id
        self._outputs_at = inputs
        self._share = share
        self._ids = 0
        self._stop = threading.Event()
        self._began = threading.Event()
        self._thread = threading.Thread(target=self._drive)
        self._completions: list[Completion] = []

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._began.wait(WAIT_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._queue.close()

    def busy(self, start_ns: int, end_ns: int) -> tuple[float, float, float]:
        """Of the time from `start_ns` to `end_ns`: the part in runs; and of that the tensor time, and the
        part in runs that were going on at either end, of whose tensor time nobody knew just then.

        For after the end of the context: a run that was going on at `end_ns` must have ended.
        """
        task = tensor = cut = 0.0
        for run in self._completions:
            ended = run.started_ns + run.task_ns
            inside = min(ended, end_ns) - max(run.started_ns, start_ns)
            if inside > 0:
                task += inside
                tensor += inside * run.tensor_ns / run.task_ns
                cut += inside if inside < run.task_ns else 0
        busy = task or 1.0
        return task / (end_ns - start_ns), tensor / busy, cut / busy

    def runs(self, start_ns: int, end_ns: int) -> int:
        """That began from `start_ns` to `end_ns`."""
        return sum(start_ns <= run.started_ns < end_ns for run in self._completions)

    def _drive(self) -> None:
        while not self._stop.is_set():
            self._submit()
            if self._share == 1.0 and self._queue.in_flight == 1:
                self._submit()
            run = self._next()
            if self._share < 1.0:
                self._stop.wait(run.task_ns / 1e9 * (1 / self._share - 1))
        while self._queue.in_flight:
            self._next()

    def _submit(self) -> None:
        self._ids += 1
        self._queue.submit(Submission(self._ids, self._program, 0, self._outputs_at))

    def _next(self) -> Completion:
        while not (found := self._queue.reap()):
            readable, _, _ = select.select([self._queue.completion_fd], [], [], WAIT_SECONDS)
            assert readable, "no completion"
        for run in found:
            assert run.status is CompletionStatus.OK
        self._completions += found
        self._began.set()
        return found[-1]


def cpu_seconds(pid: int) -> float:
    """What the main thread of a process has used so far."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
