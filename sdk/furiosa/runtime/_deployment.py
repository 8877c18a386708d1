"""One program on the devices of a lease: a queue pair for each, and the runs in flight on them.

A deployment is good until it fails, all at once; the runner then makes another. Its methods never wait;
all but `fill` and `read` are called with the runner's lock held.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, Self, TypeVar

import numpy.typing as npt

from furiosa.common.names import DeviceFile
from furiosa.queuepair import (
    BrokenQueue,
    ClientQueue,
    CompletionStatus,
    Descriptors,
    Geometry,
    Submission,
)
from furiosa.runtime._core.errors import FuriosaRuntimeError
from furiosa.runtime._core.inflight import InFlight, Run, Signal
from furiosa.runtime._core.places import Layout, Loans, Places
from furiosa.runtime._core.stats import Tally
from furiosa.runtime._core.translate import failed_run, fresh

Array = npt.NDArray[Any]

# A run that takes less is waited for awake, by a caller that is the only one.
BRIEF_NS: Final = 200_000
MARGIN_NS: Final = 50_000  # what it may take longer than the last one
_OK: Final = CompletionStatus.OK


@dataclass(frozen=True, slots=True)
class Port:
    """The queue of one device."""

    device: DeviceFile
    queue_id: int
    queue: ClientQueue

    @classmethod
    def attach(
        cls, device: DeviceFile, queue_id: int, descriptors: Descriptors, geometry: Geometry
    ) -> Self:
        """Owns: takes the descriptors. Raises: FuriosaRuntimeError."""
        try:
            return cls(device, queue_id, ClientQueue.attach(descriptors, geometry))
        except (BrokenQueue, OSError) as error:
            raise FuriosaRuntimeError(f"{device}: cannot map its queue: {error}") from error


def _broken(port: Port, error: BrokenQueue) -> FuriosaRuntimeError:
    return FuriosaRuntimeError(f"{port.device}: its queue broke: {error}")


class _Bell:
    """Wakes whoever waits on `fd`, an eventfd."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def ring(self) -> None:
        os.eventfd_write(self.fd, 1)

    def hush(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self.fd)

    def close(self) -> None:
        os.close(self.fd)


class Closable(Protocol):
    def close(self) -> None: ...


_W = TypeVar("_W", bound=Closable)
_W_co = TypeVar("_W_co", bound=Closable, covariant=True)


class Tenure(Protocol[_W_co]):
    """What a program is loaded under."""

    def watch(self, descriptors: Sequence[int], bell: int) -> _W_co: ...


class Deployment(Generic[_W]):
    """Owns the queues of `ports`, and a watch of their descriptors and a bell. `tally` counts."""

    def __init__(
        self,
        program_id: int,
        layout: Layout,
        ports: Sequence[Port],
        tenure: Tenure[_W],
        tally: Tally,
    ) -> None:
        self.tenure = tenure
        self.program_id = program_id
        self.ports = tuple(ports)
        self._queues = tuple(port.queue for port in ports)
        self._bell = _Bell()
        self.watch = tenure.watch([port.queue.completion_fd for port in ports], self._bell.fd)
        self._task_ns = 0  # of the last run
        self._places: Sequence[Places] = tuple(Places(port.queue.arena, layout) for port in ports)
        self.loans = Loans(self._places)
        self.runs = InFlight([p.slots for p in self._places], self._bell.ring)
        self._tally = tally
        self._disposed = False

    def fill(self, run: Run, arrays: Sequence[Array]) -> None:
        self._places[run.device].fill(run.slot, arrays)

    def submit(self, run: Run, inputs_at: int) -> None:
        """Start a PLACED run whose inputs are at this offset, its slot or a loan.

        Raises: FuriosaRuntimeError when the queue cannot be used any more.
        """
        device = run.device
        outputs_at = self._places[device].outputs_at[run.slot]
        self.runs.submit(run)
        try:
            self._queues[device].submit(Submission(run.id, self.program_id, inputs_at, outputs_at))
        except BrokenQueue as error:
            raise _broken(self.ports[device], error) from error

    def collect(self, signals: list[Signal]) -> bool:
        """Take the completions that have come; `signals` grows by those to set. Whether there were any.

        Raises: FuriosaRuntimeError when a queue cannot be used any more.
        """
        found = False
        runs = self.runs
        for device, queue in enumerate(self._queues):
            if not runs.busy(device):
                continue
            try:
                completions = queue.reap()
            except BrokenQueue as error:
                raise _broken(self.ports[device], error) from error
            for completion in completions:
                found = True
                self._task_ns = completion.task_ns
                self._tally.count(completion)
                signals += runs.complete(completion)
        if not found:
            self._bell.hush()
        return found

    @property
    def spin_ns(self) -> int:
        """For how long whoever waits for completions should stay awake."""
        task_ns = self._task_ns
        return task_ns + MARGIN_NS if task_ns < BRIEF_NS and self.runs.lone else 0

    def read(self, run: Run, wanted: Sequence[int]) -> list[Array]:
        """The outputs of a DONE run, the caller's own. Raises: FuriosaRuntimeError when there are none."""
        outcome = run.outcome
        assert outcome is not None
        if isinstance(outcome, FuriosaRuntimeError):
            raise fresh(outcome)
        if outcome.status is _OK:
            return self._places[run.device].outputs(run.slot, wanted)
        raise failed_run(outcome.status, self.ports[run.device].device)

    def fail(self, failure: FuriosaRuntimeError) -> Sequence[Signal]:
        """End every run with this error, and wake whoever waits for the queues; the first one stays."""
        if self.runs.failure is None:
            self._tally.failed += self.runs.unfinished
        signals = self.runs.fail(failure)
        self.dispose_if_unused()
        return signals

    def dispose_if_unused(self) -> None:
        """Let go of the queues of a failed deployment, once nobody waits on them or reads outputs."""
        if self.runs.failure is not None and self.runs.unused and not self._disposed:
            self.close()

    def close(self) -> None:
        """Only for a deployment that nobody uses."""
        self._disposed = True
        self._places = ()  # or a traceback that somebody keeps would keep the arenas
        self.loans = Loans(())
        self.watch.close()
        for port in self.ports:
            port.queue.close()
        self._bell.close()
