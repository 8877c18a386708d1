"""Inference through the SDK on virtual PEs, beside the same model run in process."""

from collections.abc import Iterator

from benchmarks.efforts import Effort
from benchmarks.figures import Found
from benchmarks.inference import (
    copying,
    engines,
    latency,
    loading,
    memory,
    profiling,
    remote,
    throughput,
)


def figures(effort: Effort) -> Iterator[Found]:
    for measured in (
        latency,
        engines,
        copying,
        throughput,
        profiling,
        remote,
        loading,
        memory,
    ):
        yield from measured.figures(effort)
