"""How long inferences of a model take, and how many a second there are.

    report = await BenchRunner(BenchConfig("model.onnx", queries=1000), "L").run()

Source: command-line reference 5, whose options are the fields of a BenchConfig.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import numpy as np

from furiosa.common.build import BUILD_TIME, VERSION
from furiosa.runtime._async.runner import Runner
from furiosa.runtime._async.runtime import Runtime
from furiosa.runtime.profiler import profile

__all__ = ["BenchConfig", "BenchReport", "BenchRunner", "Workload"]


class Workload(Enum):
    """LATENCY: one query after the other. THROUGHPUT: `workers` in flight on each device."""

    LATENCY = "latency"
    THROUGHPUT = "throughput"


_WORKLOADS: Final[Mapping[str, Workload]] = {
    "L": Workload.LATENCY,
    "T": Workload.THROUGHPUT,
    "latency": Workload.LATENCY,
    "throughput": Workload.THROUGHPUT,
}
_GOALS: Final[Mapping[Workload, str]] = {
    Workload.LATENCY: "latency of individual queries over throughput",
    Workload.THROUGHPUT: "throughput over latency of individual queries",
}
# name for programs, name for people, rank; the last one is published under a label that is not its own
_PERCENTILES: Final = (
    ("50th", "50th", 50.0),
    ("95th", "95th", 95.0),
    ("99th", "99th", 99.0),
    ("99.9th", "99th", 99.9),
)


@dataclass(frozen=True, slots=True)
class BenchConfig:
    """What is measured, until both `queries` are done and `duration` seconds are over.

    `path`: a model as for `create_runner`, whose arguments `batch` (a power of two), `compiler_config`,
    `devices` and `workers` become. `trace_output`: where a trace of all queries goes; recording costs time.
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

    def __post_init__(self) -> None:
        if self.batch < 1 or self.batch.bit_count() != 1:
            raise ValueError(f"batch: expected a power of two, found {self.batch}")
        if self.queries < 1:
            raise ValueError(f"queries: expected 1 or more, found {self.queries}")
        if not self.duration >= 0:
            raise ValueError(f"duration: expected 0 or more seconds, found {self.duration}")


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What was measured. Times are in microseconds, `latencies` (at least one) in any order."""

    workload: Workload
    path: str
    md5: str  # of the file
    batch: int
    run_time: int
    latencies: tuple[int, ...]

    @property
    def rate(self) -> str:
        """Queries a second."""
        return f"{len(self.latencies) / max(self.run_time, 1) * 1e6:.2f}/s"

    def text(self) -> str:
        """For people; the last line's label is the published one, its value the 99.9th percentile."""
        shown = [
            ("Min latency (us)", min(self.latencies)),
            ("Max latency (us)", max(self.latencies)),
            ("Mean latency (us)", _mean(self.latencies)),
        ]
        percentiles = [
            (f"{label} percentile (us)", self._percentile(rank)) for _, label, rank in _PERCENTILES
        ]
        head = (
            f"This benchmark was executed with {self.workload.value}-workload which prioritizes "
            f"{_GOALS[self.workload]}."
        )
        return "\n".join(
            [
                "=" * 70,
                head,
                f"{len(self.latencies)} queries executed with batch size {self.batch}",
                "Latency stats are as follows",
                f"QPS(Throughput): {self.rate}",
                "",
                "Per-query latency:",
                *(f"{label:20}: {value}" for label, value in (*shown, *percentiles)),
            ]
        )

    def json(self) -> str:
        """For programs."""
        stats = {
            "min": min(self.latencies),
            "max": max(self.latencies),
            "mean": _mean(self.latencies),
            **{f"{name} percentile": self._percentile(rank) for name, _, rank in _PERCENTILES},
        }
        content: dict[str, Any] = {
            "model_data": {"path": self.path, "md5": f"{self.md5}  {self.path}"},
            "compiler_version": f"{VERSION.version}-{VERSION.stage} "
            f"(rev: {VERSION.revision} built_at: {BUILD_TIME})",
            "hal_version": f"Version: {VERSION.version}",
            "git_revision": VERSION.hash[:7],
            "result": {
                "mode": self.workload.value.capitalize(),
                "total run time": f"{self.run_time} us",
                "total num queries": len(self.latencies),
                "batch size": self.batch,
                "qps": self.rate,
                "latency stats": {key: f"{value} us" for key, value in stats.items()},
            },
        }
        return json.dumps(content, indent=4)

    def _percentile(self, rank: float) -> int:
        return int(np.percentile(self.latencies, rank, method="higher"))


class BenchRunner:
    """Measures what `config` says; `workload` is L, T, latency or throughput.

    Raises: ValueError for another workload.
    """

    def __init__(self, config: BenchConfig, workload: str = "L") -> None:
        if workload not in _WORKLOADS:
            raise ValueError(
                f"workload: expected one of {', '.join(_WORKLOADS)}; found {workload!r}"
            )
        self._config = config
        self._workload = _WORKLOADS[workload]

    async def run(self) -> BenchReport:
        """Lease, load, measure, give back. The inputs are zeros.

        Raises: FuriosaRuntimeError; OSError when the trace cannot be written.
        """
        config = self._config
        async with (
            Runtime(config.devices) as runtime,
            runtime.create_runner(
                config.path,
                worker_num=config.workers,
                batch_size=config.batch,
                compiler_config=config.compiler_config,
            ) as runner,
        ):
            with _traced(config.trace_output):
                run_time, latencies = await self._measured(runner, len(runtime.devices))
        digest = await anyio.to_thread.run_sync(_md5, Path(config.path))
        return BenchReport(
            self._workload, os.fspath(config.path), digest, config.batch, run_time, latencies
        )

    async def _measured(self, runner: Runner, devices: int) -> tuple[int, tuple[int, ...]]:
        lanes = self._config.workers * devices if self._workload is Workload.THROUGHPUT else 1
        begun = 0
        latencies: list[int] = []
        start = time.perf_counter_ns()
        end = start + int(self._config.duration * 1e9)

        async def lane() -> None:
            nonlocal begun
            inputs = runner.allocate()
            for array in inputs:
                array.fill(0)
            while begun < self._config.queries or time.perf_counter_ns() < end:
                begun += 1
                before = time.perf_counter_ns()
                await runner.run(inputs)
                latencies.append((time.perf_counter_ns() - before) // 1000)

        try:
            async with anyio.create_task_group() as group:
                for _ in range(lanes):
                    group.start_soon(lane)
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return (time.perf_counter_ns() - start) // 1000, tuple(latencies)


@contextlib.contextmanager
def _traced(path: str | os.PathLike[str] | None) -> Iterator[None]:
    if path is None:
        yield
        return
    with open(path, "w", encoding="utf-8") as file, profile(file=file):
        yield


def _mean(values: Sequence[int]) -> int:
    return round(sum(values) / len(values))


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
