"""What a worker measured: one page that it writes and the broker reads."""

import fcntl
import mmap
import os
import time
from dataclasses import astuple, dataclass, field
from typing import Final

PAGE_BYTES: Final = mmap.PAGESIZE
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_TASK, _TENSOR, _RUNS, _BUSY_SINCE, _DEVICE, _FETCH, _DISCARDED = range(7)
_FASTEST_NS: Final = 1000  # no run fails in less


@dataclass(frozen=True, slots=True)
class Errors:
    """How often something went wrong on a device file."""

    device: int = 0  # runs that failed; on the broker's side also workers that died
    fetch: int = 0  # runs whose inputs did not reach the card
    discarded: int = 0  # runs that were refused as records; on the broker's side also broken queues

    def __add__(self, other: "Errors") -> "Errors":
        return Errors(
            self.device + other.device,
            self.fetch + other.fetch,
            self.discarded + other.discarded,
        )


@dataclass(frozen=True, slots=True)
class Counters:
    """Totals since the worker started. Nanoseconds; a run in progress counts so far."""

    task_ns: int = 0  # in runs
    tensor_ns: int = 0  # of it, in tensor operations; the rest moved data
    runs: int = 0
    errors: Errors = field(default_factory=Errors)


def create_page() -> int:
    """A zeroed memfd for one worker, sealed in size; yours to close."""
    fd = os.memfd_create("furiosa-counters", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, PAGE_BYTES)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd


class CountersPage:
    """The page mapped: aligned 64-bit words, each read and written by one store of the CPU.

    Between runs the first holds the task time; in a run it holds the task time before it less the time
    it began, which is negative: one word, so that no reading ever counts a run twice or not at all. The
    others are totals; reading them in the middle of an update lacks one run at most.
    """

    def __init__(self, fd: int) -> None:
        """Maps `fd`, which stays yours."""
        self._map = mmap.mmap(fd, PAGE_BYTES)
        self._words = memoryview(self._map).cast("q")
        self._last = Counters()
        self._since_ns = time.monotonic_ns()

    def started(self, now_ns: int) -> None:
        words = self._words
        words[_BUSY_SINCE] = now_ns
        words[_TASK] -= now_ns

    def ended(self, task_ns: int, tensor_ns: int) -> None:
        """What the run in progress took."""
        words = self._words
        words[_TASK] += words[_BUSY_SINCE] + task_ns
        words[_TENSOR] += tensor_ns
        words[_RUNS] += 1
        words[_BUSY_SINCE] = 0

    def failed(self) -> None:
        self._words[_DEVICE] += 1

    def not_fetched(self) -> None:
        self._words[_FETCH] += 1

    def discarded(self) -> None:
        self._words[_DISCARDED] += 1

    def read(self, now_ns: int) -> Counters:
        """Totals so far. Whatever the worker writes, they never go back nor exceed the time there was.

        Nobody knows which part of a run in progress is tensor time until it has ended: it is taken to be
        the same part as of all runs before, and all of the first.
        """
        _, tensor, runs, _, *errors = self._words[: _DISCARDED + 1]
        task = self._words[_TASK]  # written first, read last: no tensor time that is not in it
        limit = now_ns - self._since_ns
        if task < 0:
            task = min(max(task + now_ns, 0), limit)
            before = min(max(task - self.running_ns(now_ns), 0), task)
            tensor += (task - before) * min(max(tensor, 0), before) // before if before else task
        task = min(task, limit)
        last = self._last
        most = limit // _FASTEST_NS
        self._last = Counters(
            max(last.task_ns, task),
            max(last.tensor_ns, min(tensor, task)),
            max(last.runs, runs),
            Errors(
                *(
                    max(before, min(count, most))
                    for before, count in zip(astuple(last.errors), errors, strict=True)
                )
            ),
        )
        return self._last

    def running_ns(self, now_ns: int) -> int:
        """For how long the run in progress has been going; 0 when there is none."""
        busy_since = int(self._words[_BUSY_SINCE])
        return now_ns - busy_since if 0 < busy_since <= now_ns else 0

    def close(self) -> None:
        self._words.release()
        self._map.close()
