"""What a profiler records: spans, and how an inference that was measured becomes some.

Source: runtime reference 10.
"""

import secrets
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Final, NamedTuple

from furiosa.common.names import DeviceFile
from furiosa.enf.spans import Span as Row
from furiosa.enf.spans import Step

CORES: Final = 2  # of a card, for the numbers of PEs on a machine


class Category(Enum):
    RUNTIME = "Runtime"
    NPU = "NPU"


class Place(NamedTuple):
    """Where a span hangs: its trace and its own number. A root hangs at span 0."""

    trace_id: int  # 128 bits
    span_id: int  # 64 bits


class Span(NamedTuple):
    """Times are ns since the epoch; `execution_index` counts the NPU sections of an inference."""

    trace_id: int
    parent_id: int
    span_id: int
    start: int
    end: int
    category: Category
    name: str
    thread_id: int
    dram_base: int | None = None
    pe_index: int | None = None
    execution_index: int | None = None
    instruction_index: int | None = None
    operator_index: int | None = None


def below(parent: Place | None) -> tuple[Place, int]:
    """A new place, in the trace of `parent` or of its own, and the id of its parent."""
    if parent is None:
        return Place(secrets.randbits(128), secrets.randbits(64)), 0
    return Place(parent.trace_id, secrets.randbits(64)), parent.span_id


class Named(NamedTuple):
    """What a user calls a stretch of his program. Times are ns of CLOCK_MONOTONIC."""

    place: Place
    parent_id: int
    thread_id: int
    start: int
    end: int
    name: str

    def spans(self, offset: int) -> Iterator[Span]:
        (trace_id, span_id), times = self.place, (self.start + offset, self.end + offset)
        numbers = (trace_id, self.parent_id, span_id, *times)
        yield Span(*numbers, Category.RUNTIME, self.name, self.thread_id)


class Inference(NamedTuple):
    """One call of a runner. Times are ns of CLOCK_MONOTONIC, those of the device on its own machine."""

    parent: Place | None
    thread_id: int
    device: DeviceFile
    begun: int
    submitted: int  # inputs were copied by then
    started: int  # on the device
    task_ns: int
    ended: int
    rows: Sequence[Row]  # empty: the steps were not measured
    times: Sequence[Sequence[int]]  # begin and end of each row; zeros: it was left out

    def spans(self, offset: int) -> Iterator[Span]:
        """Its root first. `offset`: the epoch's clock less the monotonic one of this machine, in ns."""
        root, parent_id = below(self.parent)
        yield self._here(root, parent_id, "Inference", self.begun + offset, self.ended + offset)
        times = self.begun + offset, self.submitted + offset
        yield self._here(*below(root), "FeedInputs", *times)
        offset += self._lag()
        if not self.rows:
            started = self.started + offset
            yield self._there(*below(root), "Execution", started, started + self.task_ns, 0)
        execution = 0
        steps: list[tuple[Row, int, int]] = []  # of the NPU section at hand
        for row, (start, end) in zip(self.rows, self.times, strict=True):
            if not end:
                continue
            steps.append((row, start + offset, end + offset))
            if row.step is Step.HOST:
                yield self._here(*below(root), row.name, *steps.pop()[1:], operator_index=row.index)
            elif row.step is Step.STORE:
                yield from self._section(root, steps, execution)
                execution += 1
                steps = []

    def _lag(self) -> int:
        """How far this machine's clock is ahead of the device's.

        Between processes of one machine it is one clock. A run on another machine is put into the middle
        of the time in which it must have happened.
        """
        before, after = self.started - self.submitted, self.ended - self.started - self.task_ns
        return 0 if before >= 0 <= after else (after - before) // 2

    def _section(
        self, root: Place, steps: Sequence[tuple[Row, int, int]], execution: int
    ) -> Iterator[Span]:
        whole, parent_id = below(root)
        yield self._there(whole, parent_id, "Execution", steps[0][1], steps[-1][2], execution)
        for row, start, end in steps:
            number = row.index if row.step is Step.OPERATOR else None
            yield self._there(*below(whole), row.name, start, end, execution, number)

    def _here(
        self,
        place: Place,
        parent_id: int,
        name: str,
        start: int,
        end: int,
        operator_index: int | None = None,
    ) -> Span:
        numbers = (place.trace_id, parent_id, place.span_id, start, end)
        thread = self.thread_id
        return Span(*numbers, Category.RUNTIME, name, thread, operator_index=operator_index)

    def _there(
        self,
        place: Place,
        parent_id: int,
        name: str,
        start: int,
        end: int,
        execution: int,
        instruction: int | None = None,
    ) -> Span:
        numbers = (place.trace_id, parent_id, place.span_id, start, end)
        indices = (0, pe_index(self.device), execution, instruction)
        return Span(*numbers, Category.NPU, name, self.thread_id, *indices)


def pe_index(device: DeviceFile) -> int:
    """The first PE of a device file, counted over all cards."""
    first = 0 if device.cores.is_all else device.cores.first
    return device.npu * CORES + first
