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
    """The page mapped: seven aligned 64-bit words, each read and written by one store of the CPU.

    Words are independent totals: reading one before and one after an update costs at most one run.
    """

    def __init__(self, fd: int) -> None:
        """Maps `fd`, which stays yours."""
        self._map = mmap.mmap(fd, PAGE_BYTES)
        self._words = memoryview(self._map).cast("Q")
        self._last = Counters()
        self._since_ns = time.monotonic_ns()

    def started(self, now_ns: int) -> None:
        self._words[_BUSY_SINCE] = now_ns

    def ended(self, task_ns: int, tensor_ns: int) -> None:
        words = self._words
        words[_TASK] += task_ns
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
        """Totals so far. Whatever the worker writes, they never go back nor exceed the time there was."""
        task, tensor, runs, busy_since, *errors = self._words[: _DISCARDED + 1]
        if 0 < busy_since <= now_ns:
            task += now_ns - busy_since
        task = min(task, now_ns - self._since_ns)
        last = self._last
        most = (now_ns - self._since_ns) // _FASTEST_NS
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
