"""The benchmark itself: lease, load, warm up, measure, give back."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

from furiosa.enf import read
from furiosa.runtime._async import io
from furiosa.runtime._async.runtime import Runtime
from furiosa.runtime._core.selection import device_text, parse, target_of
from furiosa.runtime._core.translate import translated
from furiosa.runtime._source import enf_of
from furiosa.runtime._sync.runtime import Runtime as BlockingRuntime
from furiosa.runtime.bench import lanes
from furiosa.runtime.bench.config import WORKLOADS, BenchConfig, Workload
from furiosa.runtime.bench.recording import Plan
from furiosa.runtime.bench.report import BenchReport
from furiosa.runtime.profiler import profile


class Stage(Enum):
    """What a benchmark is doing; the value is for people."""

    COMPILING = "reading or compiling the model"
    LOADING = "leasing devices and loading the model"
    WARMING_UP = "warming up"
    MEASURING = "measuring"
    DONE = "done"


class BenchRunner:
    """Measures once what `config` says; `workload` is L, T, latency or throughput.

    Raises: ValueError for another workload.
    """

    def __init__(self, config: BenchConfig, workload: str = "L") -> None:
        if workload not in WORKLOADS:
            raise ValueError(
                f"workload: expected one of {', '.join(WORKLOADS)}; found {workload!r}"
            )
        self.devices: tuple[str, ...] = ()  # the leased ones, while there are any
        self._config = config
        self._workload = WORKLOADS[workload]
        self._plan = Plan(config, self._workload)
        self._stage = Stage.COMPILING
        self._batch = config.batch
        self._digest = ""

    @property
    def stage(self) -> Stage:
        if self._stage is Stage.WARMING_UP and self._plan.has_begun:
            return Stage.MEASURING
        return self._stage

    @property
    def queries(self) -> int:
        """How many were executed so far; those that warm up are not counted."""
        return self._plan.queries

    def stop(self) -> None:
        """End with the queries in flight; `run` returns what was measured."""
        self._plan.stop()

    async def run(self) -> BenchReport:
        """The devices are leased when the model is compiled. The inputs are zeros.

        Raises: FuriosaRuntimeError; OSError when the model cannot be read or the trace not be written.
        """
        enf = await io.in_thread(self._compiled)
        self._stage = Stage.LOADING
        if self._workload is Workload.THROUGHPUT and self._config.io_threads > 1:
            try:
                await io.in_thread(lambda: self._in_threads(enf))
            finally:
                self.stop()  # when cancelled, the thread goes on by itself
        else:
            await self._in_tasks(enf)
        self._stage = Stage.DONE
        return self.report()

    def report(self) -> BenchReport:
        """What was measured so far. For when `run` was cancelled after the first of its `queries`."""
        found = self._plan.all()
        is_closed = self._workload is Workload.THROUGHPUT
        return BenchReport(
            workload=self._workload,
            path=os.fspath(self._config.path),
            md5=self._digest,
            batch=self._batch,
            run_time=found.end - found.start,
            latencies=found.latencies,
            without_omissions=(
                found.latencies.without_omissions() if is_closed else found.latencies
            ),
            timeline=found.timeline,
        )

    def _compiled(self) -> bytes:
        config = self._config
        text, source = device_text(config.devices, os.environ)
        target = target_of(parse(text, source))
        enf = enf_of(config.path, target, config.batch, config.compiler_config)
        with translated():
            self._batch = read(enf).batch
        self._digest = _md5(Path(config.path))
        return enf

    async def _in_tasks(self, enf: bytes) -> None:
        config = self._config
        async with (
            Runtime(config.devices) as runtime,
            runtime.create_runner(enf, worker_num=config.workers) as runner,
        ):
            self._loaded(runtime.devices)
            count = len(runtime.devices) * config.workers
            in_flight = count if self._workload is Workload.THROUGHPUT else 1
            with _traced(config.trace_output) as warming:
                await lanes.in_tasks(runner, in_flight, warming, self._plan)

    def _in_threads(self, enf: bytes) -> None:
        config = self._config
        with (
            BlockingRuntime(config.devices) as runtime,
            runtime.create_runner(enf, worker_num=config.workers) as runner,
        ):
            self._loaded(runtime.devices)
            with _traced(config.trace_output) as warming:
                lanes.in_threads(runner, config.io_threads, warming, self._plan)

    def _loaded(self, devices: tuple[str, ...]) -> None:
        self.devices = devices
        self._stage = Stage.WARMING_UP


@contextlib.contextmanager
def _traced(
    path: str | os.PathLike[str] | None,
) -> Iterator[contextlib.AbstractContextManager[None]]:
    """What runs in the context that it yields is not in the trace, but has what tracing needs loaded."""
    if path is None:
        yield contextlib.nullcontext()
        return
    with open(path, "w", encoding="utf-8") as file, profile(file=file) as profiler:
        yield profiler.record("warm-up", warm_up=True)


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
