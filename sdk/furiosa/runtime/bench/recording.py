"""Which queries there are, and what was measured of them."""

import itertools
import time
from collections.abc import Iterator
from typing import Self

from furiosa.runtime.bench.config import BenchConfig, Workload
from furiosa.runtime.bench.histogram import Histogram
from furiosa.runtime.bench.timeline import Timeline

_now = time.perf_counter_ns


class Recording:
    """Latencies since `start`, and when they were. One thread at a time."""

    __slots__ = ("end", "latencies", "start", "timeline")

    def __init__(self, start: int) -> None:
        self.start = self.end = start
        self.latencies = Histogram()
        self.timeline = Timeline()

    def record(self, due: int, done: int) -> None:
        self.latencies.record(done - due)
        self.timeline.record(done - self.start, done - due)
        self.end = max(self.end, done)

    def merge(self, other: Self) -> None:
        """Add all of `other`, which has the same start."""
        self.latencies.merge(other.latencies)
        self.timeline.merge(other.timeline)
        self.end = max(self.end, other.end)


class Plan:
    """Shared by all lanes, also of several threads. The clock starts when it is made."""

    def __init__(self, config: BenchConfig, workload: Workload) -> None:
        self._queries = config.queries
        self._is_back_to_back = workload is Workload.THROUGHPUT
        self._begun = itertools.count()
        self._recordings: list[Recording] = []
        self._stopped = False
        self._start = _now()
        self._end = self._start + int(config.duration * 1e9)

    @property
    def queries(self) -> int:
        """How many are done."""
        return sum(recording.latencies.count for recording in self._recordings)

    def stop(self) -> None:
        """No more queries."""
        self._stopped = True

    def recording(self) -> Recording:
        """A new one, for one thread."""
        recording = Recording(self._start)
        self._recordings.append(recording)
        return recording

    def turns(self, recording: Recording) -> Iterator[None]:
        """The queries of one lane: the body of a loop over them executes one, which is then recorded.

        In the throughput workload a query is due when the one before it in its lane was done, so what
        keeps the lane from sending it counts as well: no time of a lane is left out.
        """
        due = self._start
        while (next(self._begun) < self._queries or _now() < self._end) and not self._stopped:
            if not self._is_back_to_back:
                due = _now()
            yield
            done = _now()
            recording.record(due, done)
            due = done

    def all(self) -> Recording:
        """What all lanes measured, when they have ended."""
        merged = Recording(self._start)
        for recording in self._recordings:
            merged.merge(recording)
        return merged
