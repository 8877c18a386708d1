"""Performance counters: one reading, and what two of them say about the time between. PURE.

Source: devices reference 8.
"""

import re
from dataclasses import dataclass
from typing import Final, Self

_WORD: Final = 1 << 32  # counters are 32 bits wide and wrap
_MIN_CYCLES_PER_NS: Final = 0.45  # a slower counter did not run all the time
_LINE = re.compile(r"(\w+): 0x([0-9a-fA-F]{1,8})", re.ASCII)


class BadCounters(Exception):
    """The text has not the four counters in use."""

    def __str__(self) -> str:
        return "PerformanceCounterError: Unexpected PerformanceCounter format."


@dataclass(frozen=True, slots=True)
class CounterReading:
    """The counters in use, in cycles of the card's counter clock, at `at_ns` (monotonic)."""

    at_ns: int
    cycle: int  # 64 bits
    task: int  # 32 bits: cycles in which a program ran
    tensor: int  # 32 bits: those of them in which the tensor unit computed

    @classmethod
    def parse(cls, text: str, at_ns: int) -> Self:
        """From the text of `perf_regs`. Raises: BadCounters."""
        found = {
            match[1]: int(match[2], 16)
            for match in map(_LINE.fullmatch, map(str.strip, text.splitlines()))
            if match is not None
        }
        try:
            return cls(
                at_ns,
                cycle=found["CycleCountHigh"] << 32 | found["CycleCount"],
                task=found["TaskExecutionTime"],
                tensor=found["TensorExecutionTime"],
            )
        except KeyError:
            raise BadCounters from None


@dataclass(frozen=True, slots=True)
class Utilisation:
    """Fractions, 0 to 1. All are 0 when nothing ran, else computation and io add up to 1."""

    npu: float  # of the time between the readings
    computation: float  # of the time in use
    io: float  # of the time in use


def increase(a: CounterReading, b: CounterReading) -> CounterReading:
    """What was counted between two readings of one device file, in either order, up to the newer one."""
    older, newer = sorted((a, b), key=lambda reading: (reading.at_ns, reading.cycle))
    cycle = newer.cycle - older.cycle
    task = (newer.task - older.task) % _WORD
    tensor = (newer.tensor - older.tensor) % _WORD
    if cycle < _MIN_CYCLES_PER_NS * (newer.at_ns - older.at_ns):
        # too slow or backwards: the card started anew in between and its counters began at 0
        cycle, task, tensor = newer.cycle, newer.task, newer.tensor
    task = min(task, cycle)
    return CounterReading(newer.at_ns, cycle, task, min(tensor, task))


def utilisation(a: CounterReading, b: CounterReading) -> Utilisation:
    """Use between two readings of one device file, in either order."""
    counted = increase(a, b)
    if counted.task == 0:
        return Utilisation(0.0, 0.0, 0.0)
    computation = counted.tensor / counted.task
    return Utilisation(counted.task / counted.cycle, computation, 1.0 - computation)
