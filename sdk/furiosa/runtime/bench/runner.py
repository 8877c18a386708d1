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
        self.stage = Stage.COMPILING
        self.devices: tuple[str, ...] = ()  # the leased ones, while there are any
        self._config = config
        self._workload = WORKLOADS[workload]
        self._plan: Plan | None = None

    @property
    def queries(self) -> int:
        """How many were executed so far; those that warm up are not counted."""
        return 0 if self._plan is None else self._plan.queries

    def stop(self) -> None:
        """End with the queries in flight; `run` returns what was measured. No effect before MEASURING."""
        if self._plan is not None:
            self._plan.stop()

    async def run(self) -> BenchReport:
        """The devices are leased when the model is compiled. The inputs are zeros.

        Raises: FuriosaRuntimeError; OSError when the model cannot be read or the trace not be written.
        """
        config = self._config
        enf, batch, digest = await io.in_thread(self._compiled)
        self.stage = Stage.LOADING
        if self._workload is Workload.THROUGHPUT and config.io_threads > 1:
            await io.in_thread(lambda: self._in_threads(enf))
        else:
            await self._in_tasks(enf)
        self.stage = Stage.DONE
        assert self._plan is not None  # it was measured
        found = self._plan.all()
        is_closed = self._workload is Workload.THROUGHPUT
        return BenchReport(
            workload=self._workload,
            path=os.fspath(config.path),
            md5=digest,
            batch=batch,
            queries=found.latencies.count,
            run_time=found.end - found.start,
            latencies=found.latencies.without_omissions() if is_closed else found.latencies,
            timeline=found.timeline,
        )

    def _compiled(self) -> tuple[bytes, int, str]:
        """The executable, its batch size, and the MD5 sum of the model."""
        config = self._config
        text, source = device_text(config.devices, os.environ)
        target = target_of(parse(text, source))
        enf = enf_of(config.path, target, config.batch, config.compiler_config)
        with translated():
            batch = read(enf).batch
        return enf, batch, _md5(Path(config.path))

    async def _in_tasks(self, enf: bytes) -> None:
        config = self._config
        async with (
            Runtime(config.devices) as runtime,
            runtime.create_runner(enf, worker_num=config.workers) as runner,
        ):
            self._loaded(runtime.devices)
            count = len(runtime.devices) * config.workers
            in_flight = count if self._workload is Workload.THROUGHPUT else 1
            await lanes.in_tasks(runner, in_flight, config.warm_up, self._measuring)

    def _in_threads(self, enf: bytes) -> None:
        config = self._config
        with (
            BlockingRuntime(config.devices) as runtime,
            runtime.create_runner(enf, worker_num=config.workers) as runner,
        ):
            self._loaded(runtime.devices)
            lanes.in_threads(runner, config.io_threads, config.warm_up, self._measuring)

    def _loaded(self, devices: tuple[str, ...]) -> None:
        self.devices = devices
        self.stage = Stage.WARMING_UP

    @contextlib.contextmanager
    def _measuring(self) -> Iterator[Plan]:
        with _traced(self._config.trace_output):
            self._plan = Plan(self._config, self._workload)
            self.stage = Stage.MEASURING
            yield self._plan


@contextlib.contextmanager
def _traced(path: str | os.PathLike[str] | None) -> Iterator[None]:
    if path is None:
        yield
        return
    with open(path, "w", encoding="utf-8") as file, profile(file=file):
        yield


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
