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
    """Shared by all lanes, also of several threads."""

    def __init__(self, config: BenchConfig, workload: Workload) -> None:
        self._queries = config.queries
        self._warm_up = config.warm_up
        self._duration = int(config.duration * 1e9)
        self._is_back_to_back = workload is Workload.THROUGHPUT
        self._begun = itertools.count()
        self._recordings: list[Recording] = []
        self._start: int | None = None
        self._stopped = False

    @property
    def queries(self) -> int:
        """How many are done."""
        return sum(recording.latencies.count for recording in self._recordings)

    @property
    def has_begun(self) -> bool:
        return self._start is not None

    def stop(self) -> None:
        """No more queries, nor any that warm up."""
        self._stopped = True

    def warm_up(self) -> Iterator[None]:
        """The queries of one lane that are not recorded."""
        for _ in range(self._warm_up):
            if self._stopped:
                return
            yield

    def begin(self) -> None:
        """All lanes are warm: the clock starts."""
        self._start = _now()

    def recording(self) -> Recording:
        """A new one, for one thread. It has begun."""
        recording = self._empty()
        self._recordings.append(recording)
        return recording

    def turns(self, recording: Recording) -> Iterator[None]:
        """The queries of one lane: the body of a loop over them executes one, which is then recorded.

        In the throughput workload a query is due when the one before it in its lane was done, so what
        keeps the lane from sending it counts as well: no time of a lane is left out.
        """
        due = recording.start
        end = due + self._duration
        while (next(self._begun) < self._queries or _now() < end) and not self._stopped:
            if not self._is_back_to_back:
                due = _now()
            yield
            done = _now()
            recording.record(due, done)
            due = done

    def all(self) -> Recording:
        """What all lanes measured. It has begun."""
        merged = self._empty()
        for recording in self._recordings:
            merged.merge(recording)
        return merged

    def _empty(self) -> Recording:
        assert self._start is not None, "nothing was measured"
        return Recording(self._start)
