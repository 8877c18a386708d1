"""What was measured, in the two published forms. Source: command-line reference 5.2, 5.3."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from furiosa.common.build import BUILD_TIME, VERSION
from furiosa.runtime.bench.config import Workload
from furiosa.runtime.bench.histogram import Histogram
from furiosa.runtime.bench.timeline import Timeline

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
class BenchReport:
    """`run_time` and latencies are in nanoseconds, what is printed in microseconds.

    Percentiles are those of `without_omissions`. Of the throughput workload that is what somebody would have
    seen who sends queries at the mean rate of a lane, see `Histogram.without_omissions`; of the other one
    it is `latencies`.
    """

    workload: Workload
    path: str
    md5: str  # of the file
    batch: int
    run_time: int
    latencies: Histogram
    without_omissions: Histogram
    timeline: Timeline

    @property
    def queries(self) -> int:
        return self.latencies.count

    @property
    def qps(self) -> float:
        """Queries a second."""
        return self.queries / max(self.run_time, 1) * 1e9

    @property
    def stats(self) -> Mapping[str, int]:
        """Latencies in microseconds, named as in the JSON report."""
        return {
            "min": _us(self.latencies.min),
            "max": _us(self.latencies.max),
            "mean": _us(self.latencies.mean),
            **{
                f"{name} percentile": _us(self.without_omissions.percentile(rank))
                for name, _, rank in _PERCENTILES
            },
        }

    def text(self) -> str:
        """For people; the last line's label is the published one, its value the 99.9th percentile."""
        labels = [
            *("Min latency (us)", "Max latency (us)", "Mean latency (us)"),
            *(f"{label} percentile (us)" for _, label, _ in _PERCENTILES),
        ]
        head = (
            f"This benchmark was executed with {self.workload.value}-workload which prioritizes "
            f"{_GOALS[self.workload]}."
        )
        return "\n".join(
            [
                "=" * 70,
                head,
                f"{self.queries} queries executed with batch size {self.batch}",
                "Latency stats are as follows",
                f"QPS(Throughput): {self.qps:.2f}/s",
                "",
                "Per-query latency:",
                *(
                    f"{label:20}: {value}"
                    for label, value in zip(labels, self.stats.values(), strict=True)
                ),
            ]
        )

    def json(self) -> str:
        """For programs."""
        content: dict[str, Any] = {
            "model_data": {"path": self.path, "md5": f"{self.md5}  {self.path}"},
            "compiler_version": f"{VERSION.version}-{VERSION.stage} "
            f"(rev: {VERSION.revision} built_at: {BUILD_TIME})",
            "hal_version": f"Version: {VERSION.version}",
            "git_revision": VERSION.hash[:7],
            "result": {
                "mode": self.workload.value.capitalize(),
                "total run time": f"{_us(self.run_time)} us",
                "total num queries": self.queries,
                "batch size": self.batch,
                "qps": f"{self.qps:.2f}/s",
                "latency stats": {key: f"{value} us" for key, value in self.stats.items()},
            },
        }
        return json.dumps(content, indent=4)


def _us(nanoseconds: float) -> int:
    return round(nanoseconds / 1000)
