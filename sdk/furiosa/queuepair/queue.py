"""The two ends of a queue pair.

Flow control needs no shared counters. The client never has more than `depth` runs in flight, the worker
takes submissions in order, and a completion says that its submission was taken. Hence the slot of
submission n is free once any of the submissions after n - depth is complete, and the slot of completion
n is free because n + 1 submissions were made, of which at most `depth` were not yet reaped.

A worker that lets go of a queue adds more to the completion doorbell than any ring can hold, so that
nobody waits for an answer that will not come.

Each end copies what it reads to locals once, checks the copies and uses only them.
"""

import contextlib
import mmap
import os
from typing import TYPE_CHECKING, Final, Self

from furiosa.queuepair.doorbell import count as rung
from furiosa.queuepair.doorbell import ring
from furiosa.queuepair.layout import (
    RECORD_BYTES,
    BrokenQueue,
    Descriptors,
    Geometry,
    inspect,
)
from furiosa.queuepair.ring import COMPLETION, STATUSES, SUBMISSION, Completion, Submission

# numpy is imported on use: whoever only passes descriptors on must start fast
if TYPE_CHECKING:
    import numpy.typing as npt


HANG_UP: Final = 1 << 32  # added to the completion doorbell by a worker that lets go
MADV_POPULATE_WRITE: Final = 23  # Source: Linux, include/uapi/asm-generic/mman-common.h


class QueueFull(Exception):
    """`depth` runs are in flight; reap first."""


class _End:
    """Mapping and doorbells of one end."""

    _map_flags = 0

    def __init__(self, descriptors: Descriptors, expected: Geometry | None) -> None:
        import numpy as np

        try:
            geometry = inspect(descriptors.memory)
            if expected is not None and geometry != expected:
                raise BrokenQueue(f"the memory is laid out for {geometry}, expected {expected}")
            self._memory = mmap.mmap(
                descriptors.memory, geometry.total_bytes, flags=mmap.MAP_SHARED | self._map_flags
            )
        except BaseException:
            descriptors.close()
            raise
        os.close(descriptors.memory)  # the mapping keeps a descriptor of its own
        self._submissions = descriptors.submissions
        self._completions = descriptors.completions
        self._mask = geometry.depth - 1
        self._submissions_offset = geometry.submissions_offset
        self._completions_offset = geometry.completions_offset
        self._closed = False
        self.geometry = geometry
        self.arena: npt.NDArray[np.uint8] = np.frombuffer(
            self._memory, np.uint8, geometry.arena_bytes, geometry.arena_offset
        )

    @classmethod
    def attach(cls, descriptors: Descriptors, expected: Geometry | None = None) -> Self:
        """Map a queue pair, laid out as `expected` if that is given.

        Owns: takes the descriptors, also when it fails. Raises: BrokenQueue; OSError without memory.
        """
        return cls(descriptors, expected)

    def close(self) -> None:
        """Close the doorbells and let go of the memory; twice is once.

        `arena` and views of it may live on in other hands: they hold the mapping, which then goes with
        the last of them. Whoever wants the memory back drops those views; a view never dangles.
        """
        if self._closed:
            return
        self._closed = True
        os.close(self._submissions)
        os.close(self._completions)
        del self.arena
        with contextlib.suppress(BufferError):  # views are left: the last one frees the mapping
            self._memory.close()


class ClientQueue(_End):
    """The end that asks. One thread may submit while another reaps; no more than one of each."""

    # First touch of 600 kB costs 421 us, a later copy into it 17. It is the client that touches first,
    # because the kernel charges a page to whoever does: tensors are the client's memory.
    _map_flags = mmap.MAP_POPULATE

    def __init__(self, descriptors: Descriptors, expected: Geometry | None) -> None:
        super().__init__(descriptors, expected)
        self._in_flight: set[int] = set()
        self._submitted = 0
        self._reaped = 0

    @property
    def completion_fd(self) -> int:
        """Readable when `reap` would return something."""
        return self._completions

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    def submit(self, submission: Submission) -> None:
        """Hand one run to the worker; the inputs must be in the arena by now.

        Raises: QueueFull; ValueError for an id that is in flight; struct.error for a negative or
        oversized field; BrokenQueue.
        """
        in_flight = self._in_flight
        if len(in_flight) > self._mask:
            raise QueueFull
        if submission.id in in_flight:
            raise ValueError(f"submission {submission.id} is in flight already")
        sequence = self._submitted
        offset = self._submissions_offset + (sequence & self._mask) * RECORD_BYTES
        SUBMISSION.pack_into(self._memory, offset, sequence, *submission)
        in_flight.add(submission.id)
        self._submitted = sequence + 1
        ring(self._submissions)

    def reap(self) -> list[Completion]:
        """The runs that ended since the last call, oldest first; [] when there are none, never waits.

        Raises: BrokenQueue; completions of the same call are lost with the queue.
        """
        count = rung(self._completions)
        if count >= HANG_UP:
            count %= HANG_UP
            if not count:
                raise BrokenQueue("the worker let go of this queue")
            os.eventfd_write(self._completions, HANG_UP)  # for the next call: these came before it
        if count > len(self._in_flight):
            raise BrokenQueue(
                f"{count} completions rung, {len(self._in_flight)} runs are in flight"
            )
        return [self._next() for _ in range(count)]

    def _next(self) -> Completion:
        expected = self._reaped
        offset = self._completions_offset + (expected & self._mask) * RECORD_BYTES
        sequence, id_, code, task_ns, tensor_ns, started_ns = COMPLETION.unpack_from(
            self._memory, offset
        )
        if sequence != expected:
            raise BrokenQueue(f"completion {expected} has sequence {sequence}")
        if id_ not in self._in_flight:
            raise BrokenQueue(f"completion of run {id_}, which is not in flight")
        status = STATUSES.get(code)
        if status is None:
            raise BrokenQueue(f"completion of run {id_} has status {code}")
        self._in_flight.remove(id_)
        self._reaped = expected + 1
        return Completion(id_, status, task_ns, tensor_ns, started_ns)


class WorkerQueue(_End):
    """The end that serves; for one thread."""

    def __init__(self, descriptors: Descriptors, expected: Geometry | None) -> None:
        super().__init__(descriptors, expected)
        self._taken = 0
        self._completed = 0

    @property
    def submission_fd(self) -> int:
        """Readable when `take` would return something."""
        return self._submissions

    def take(self) -> list[Submission]:
        """The runs submitted since the last call, oldest first; [] when there are none, never waits.

        Offsets and programs are the client's word: check them before use. Raises: BrokenQueue.
        """
        count = rung(self._submissions)
        if (
            count and not self._taken
        ):  # the client has attached and paid for the pages: map them all at once
            with contextlib.suppress(OSError):  # before Linux 5.14: one by one, when touched
                self._memory.madvise(MADV_POPULATE_WRITE)
        open_ = self._taken - self._completed
        if count > self.geometry.depth - open_:
            raise BrokenQueue(
                f"{count} submissions rung while {open_} are open, the ring holds {self.geometry.depth}"
            )
        return [self._next() for _ in range(count)]

    def _next(self) -> Submission:
        expected = self._taken
        offset = self._submissions_offset + (expected & self._mask) * RECORD_BYTES
        sequence, *fields = SUBMISSION.unpack_from(self._memory, offset)
        if sequence != expected:
            raise BrokenQueue(f"submission {expected} has sequence {sequence}")
        self._taken = expected + 1
        return Submission._make(fields)

    def complete(self, completion: Completion) -> None:
        """Answer one taken run; its outputs must be in the arena by now. Raises: BrokenQueue."""
        sequence = self._completed
        offset = self._completions_offset + (sequence & self._mask) * RECORD_BYTES
        COMPLETION.pack_into(self._memory, offset, sequence, *completion)
        self._completed = sequence + 1
        ring(self._completions)

    def close(self) -> None:
        """Let go of the queue, and let the client know after what was completed. Twice is once."""
        if not self._closed:
            with contextlib.suppress(BlockingIOError):  # a full counter says the same
                os.eventfd_write(self._completions, HANG_UP)
        super().close()
