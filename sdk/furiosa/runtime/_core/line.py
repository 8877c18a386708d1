"""Inferences on their way through a queue, and who waits for them to move on.

A job is queued, then runs, then its result is finished, until somebody receives it. At most `input_size`
are queued, `workers` run, and `output_size` are finished; a worker whose result finds no room keeps it and
does nothing else meanwhile, so there may be `workers` finished ones more. When all are kept nothing runs,
jobs stay queued, and who submits waits.

Who has to wait appends a signal to `senders` or `receivers`, tries again when it is set, and removes it
when it leaves, however that comes. The first come first: as many as there are places or results may go.
That a signal is set is a consequence of the state (`due`), not an event, so nobody's leaving loses it.

Nothing here locks or waits. Callers hold the queue's lock; signals returned are theirs to set.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import numpy.typing as npt

from furiosa.runtime._core.errors import FuriosaRuntimeError, SessionClosed, SessionTerminated
from furiosa.runtime._core.inflight import Signal
from furiosa.runtime._core.translate import fresh

Array = npt.NDArray[Any]


class Drained(SessionTerminated):
    """The submitter is closed and everything has been received."""


class ReceiverClosed(SessionClosed):
    """By its owner."""


ENDS: Final = (Drained, ReceiverClosed)  # where iteration stops instead of raising


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    arrays: Sequence[Array]
    context: object


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    context: object
    outcome: list[Array] | FuriosaRuntimeError


class Line:
    def __init__(self, input_size: int, output_size: int, workers: int) -> None:
        self._input_size = input_size
        self._kept = workers + output_size  # running and finished, at most
        self._workers = workers
        self._queued: deque[Job] = deque()
        self._running = 0
        self._finished: deque[Result] = deque()
        self._closed = False
        self._failure: FuriosaRuntimeError | None = None
        self.senders: deque[Signal] = deque()
        self.receivers: deque[Signal] = deque()

    @property
    def over(self) -> bool:
        """Whether nothing runs any more, whatever happens."""
        return self._failure is not None

    def submit(self, job: Job, signal: Signal | None = None) -> bool:
        """Whether it is queued now. `signal`: the one of `senders` that the caller waits with.

        Raises: SessionClosed, SessionTerminated.
        """
        if self._failure is not None:
            raise fresh(self._failure)
        if self._closed:
            raise SessionClosed("the submitter is closed; create a new queue")
        if _ahead(self.senders, signal) >= self._input_size - len(self._queued):
            return False
        self._queued.append(job)
        return True

    def start(self) -> Job | None:
        """A job that runs from now on, if there is one and a worker free for it."""
        if (
            not self._queued
            or self._running >= self._workers
            or self._running + len(self._finished) >= self._kept
        ):
            return None
        self._running += 1
        return self._queued.popleft()

    def finish(self, result: Result) -> None:
        """What became of a job that ran."""
        self._running -= 1
        if not isinstance(self._failure, ReceiverClosed):
            self._finished.append(result)

    def receive(self, signal: Signal | None = None) -> Result | None:
        """The next result, None while there is none. `signal`: as for `submit`, of `receivers`.

        Results that were finished before a failure are received before it is raised.
        Raises: Drained, ReceiverClosed, SessionClosed, SessionTerminated.
        """
        if _ahead(self.receivers, signal) < len(self._finished):
            return self._finished.popleft()
        if self._failure is not None:
            raise fresh(self._failure)
        if self._drained:
            raise Drained("the submitter is closed and everything has been received")
        return None

    def close(self) -> None:
        """Nothing is submitted any more; what is queued runs."""
        self._closed = True

    def fail(self, failure: FuriosaRuntimeError) -> None:
        """Nothing runs any more; the first failure stays."""
        if self._failure is None:
            self._failure = failure
            self._queued.clear()

    def hang_up(self) -> None:
        """Nobody receives any more."""
        self._failure = ReceiverClosed("the receiver is closed; create a new queue")
        self._queued.clear()
        self._finished.clear()

    def due(self) -> list[Signal]:
        """The signals of all who need not wait any more; for some it is not the first time."""
        signals: list[Signal] = []
        if self.senders:
            room = self._input_size - len(self._queued)
            signals += _first(self.senders, room, everyone=self.over or self._closed)
        if self.receivers:
            results = len(self._finished)
            signals += _first(self.receivers, results, everyone=self.over or self._drained)
        return signals

    @property
    def _drained(self) -> bool:
        return self._closed and not self._queued and not self._running


def _ahead(waiting: deque[Signal], signal: Signal | None) -> int:
    return len(waiting) if signal is None else waiting.index(signal)


def _first(waiting: deque[Signal], number: int, *, everyone: bool) -> Iterator[Signal]:
    return islice(waiting, None if everyone else number)
