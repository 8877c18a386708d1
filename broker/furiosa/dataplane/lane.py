"""One queue to one device file, for one program: slots in, completions out."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from furiosa.common.errors import (
    DeviceError,
    FuriosaError,
    InternalError,
    UnknownProgram,
    WorkerDied,
)
from furiosa.common.names import DeviceFile
from furiosa.common.views import ProgramView
from furiosa.queuepair import (
    BrokenQueue,
    ClientQueue,
    Completion,
    CompletionStatus,
    Submission,
    tensor_offsets,
)

# Runs in flight on one device file; it is busy with two, the rest hides our latency.
DEPTH: Final = 8


@dataclass(frozen=True, slots=True)
class Result:
    outputs: list[bytes]
    task_ns: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the tensors of a program lie within a slot: inputs, then outputs."""

    inputs: tuple[tuple[int, int], ...]  # offset in the slot, bytes
    outputs: tuple[tuple[int, int], ...]
    outputs_at: int
    slot_bytes: int

    @classmethod
    def of(cls, program: ProgramView) -> "Layout":
        sizes_in = [spec.nbytes for spec in program.inputs]
        sizes_out = [spec.nbytes for spec in program.outputs]
        offsets_in, total_in = tensor_offsets(sizes_in)
        offsets_out, total_out = tensor_offsets(sizes_out)
        return cls(
            tuple(zip(offsets_in, sizes_in, strict=True)),
            tuple((total_in + o, n) for o, n in zip(offsets_out, sizes_out, strict=True)),
            total_in,
            total_in + total_out,
        )


class Lane:
    """Takes `queue`. Slots are numbered 0..DEPTH-1 and handed out by the caller.

    `on_free` is called when a run has ended and its slot may be used again; `on_failed` once, when the
    lane has become useless, with the reason that its runs were given.
    """

    def __init__(
        self,
        program: ProgramView,
        layout: Layout,
        file: DeviceFile,
        queue_id: int,
        queue: ClientQueue,
        on_free: Callable[["Lane", int], None],
        on_failed: Callable[["Lane", FuriosaError], None],
    ) -> None:
        self.file = file
        self.queue_id = queue_id
        self.alive = True
        self._program = program
        self._layout = layout
        self._queue = queue
        self._on_free = on_free
        self._on_failed = on_failed
        self._ids = itertools.count(1)
        self._runs: dict[int, tuple[int, asyncio.Future[Result]]] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(queue.completion_fd, self._completed)

    @property
    def runs(self) -> int:
        """How many have not ended."""
        return len(self._runs)

    def start(self, slot: int, inputs: Sequence[memoryview]) -> "asyncio.Future[Result]":
        """Run once in a free slot of a lane that is alive; `inputs` are of the program's sizes.

        The future may be cancelled; the slot is free when `on_free` says so. It fails with WorkerDied,
        UnknownProgram, DeviceError, InternalError, or what `fail` is given.
        """
        base = slot * self._layout.slot_bytes
        arena = self._queue.arena
        for (offset, size), data in zip(self._layout.inputs, inputs, strict=True):
            arena[base + offset : base + offset + size] = np.frombuffer(data, np.uint8)
        number = next(self._ids)
        future: asyncio.Future[Result] = self._loop.create_future()
        self._runs[number] = slot, future
        try:
            self._queue.submit(
                Submission(number, self._program.id, base, base + self._layout.outputs_at)
            )
        except BrokenQueue as error:
            self.fail(WorkerDied(str(self.file), str(error)))
        return future

    def fail(self, error: FuriosaError) -> None:
        """End every run with `error` and let go of the queue."""
        if not self.alive:
            return
        self.alive = False
        self._loop.remove_reader(self._queue.completion_fd)
        self._queue.close()
        runs, self._runs = self._runs, {}
        for _, future in runs.values():
            if not future.done():
                future.set_exception(error)
        self._on_failed(self, error)

    def _completed(self) -> None:
        try:
            completions = self._queue.reap()
        except BrokenQueue as error:
            self.fail(WorkerDied(str(self.file), str(error)))
            return
        for completion in completions:
            slot, future = self._runs.pop(completion.id)
            if not future.done():
                self._settle(future, slot, completion)
            self._on_free(self, slot)
            if not self.alive:
                return

    def _settle(self, future: "asyncio.Future[Result]", slot: int, completion: Completion) -> None:
        match completion.status:
            case CompletionStatus.OK:
                base = slot * self._layout.slot_bytes
                arena = self._queue.arena
                outputs = [
                    arena[base + offset : base + offset + size].tobytes()
                    for offset, size in self._layout.outputs
                ]
                future.set_result(Result(outputs, completion.task_ns))
            case CompletionStatus.UNKNOWN_PROGRAM:
                gone = UnknownProgram(self._program.lease_id, self._program.id)
                future.set_exception(gone)
                self.fail(gone)
            case CompletionStatus.DMA_ERROR:
                cause = "a DMA error: the inputs did not reach the card; try again"
                future.set_exception(DeviceError(str(self.file), cause))
            case _:
                reason = f"{completion.status.name.lower()} on {self.file}"
                future.set_exception(InternalError(reason))
