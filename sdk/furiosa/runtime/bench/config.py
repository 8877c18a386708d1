"""What is to be measured."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Workload(Enum):
    """LATENCY: one query after the other. THROUGHPUT: as many in flight as the devices take."""

    LATENCY = "latency"
    THROUGHPUT = "throughput"


WORKLOADS: Final[Mapping[str, Workload]] = {
    "L": Workload.LATENCY,
    "T": Workload.THROUGHPUT,
    "latency": Workload.LATENCY,
    "throughput": Workload.THROUGHPUT,
}


@dataclass(frozen=True, slots=True)
class BenchConfig:
    """What is measured, until both `queries` are done and `duration` seconds are over.

    `path`: a model as for `create_runner`, whose arguments `batch` (a power of two), `compiler_config`,
    `devices` and `workers` become. `trace_output`: where a trace of all queries goes; recording costs time.
    `io_threads`: of the throughput workload; 1 is an event loop that has `workers` queries in flight on
    each device, more are threads with one query in flight each. `warm_up`: queries before the first
    that counts, for each that is in flight.
    Raises: ValueError.
    """

    path: str | os.PathLike[str]
    trace_output: str | os.PathLike[str] | None = None
    batch: int = 1
    compiler_config: Mapping[str, object] | None = None
    devices: str | None = None
    workers: int = 1
    queries: int = 1
    duration: float = 0.0
    io_threads: int = 1
    warm_up: int = 1

    def __post_init__(self) -> None:
        if self.batch < 1 or self.batch.bit_count() != 1:
            raise ValueError(f"batch: expected a power of two, found {self.batch}")
        for name, low, high in (
            ("workers", 1, 1024),
            ("queries", 1, None),
            ("io_threads", 1, 1024),
            ("warm_up", 0, None),
        ):
            value: int = getattr(self, name)
            if value < low or (high is not None and value > high):
                most = "or more" if high is None else f"to {high}"
                raise ValueError(f"{name}: expected {low} {most}, found {value}")
        if not 0 <= self.duration < float("inf"):
            raise ValueError(f"duration: expected 0 or more seconds, found {self.duration}")
