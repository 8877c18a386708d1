"""A figure, how two sides are timed against each other, and the report."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """`ratio` = ours / theirs, of medians; `spread` is (p10, p90) of ours then of theirs, in `unit`.

    `target` is the ratio to stay at or below; None: only measured so far.
    """

    name: str
    ratio: float
    ours: float
    theirs: float
    unit: str
    against: str
    target: float | None
    met: bool | None
    spread: tuple[float, float, float, float]


Run = Callable[[], object]


def compare(
    name: str, ours: Run, theirs: Run, *, against: str, rounds: int, target: float | None = None
) -> Figure:
    """Time both, one call each in turn, after a warm-up of a tenth of `rounds`. In microseconds."""
    for _ in range(rounds // 10):
        ours()
        theirs()
    a, b = [], []
    for _ in range(rounds):
        a.append(_microseconds(ours))
        b.append(_microseconds(theirs))
    left, right = statistics.median(a), statistics.median(b)
    ratio = left / right
    met = None if target is None else ratio <= target
    spread = (*_edges(a), *_edges(b))
    return Figure(name, ratio, left, right, "us", against, target, met, spread)


def within(name: str, samples: Sequence[float], limit: float, *, unit: str, against: str) -> Figure:
    """A figure whose other side is a bound that its worst sample must keep."""
    median, worst = statistics.median(samples), max(samples)
    spread = (*_edges(samples), limit, limit)
    return Figure(name, median / limit, median, limit, unit, against, 1.0, worst <= limit, spread)


def _microseconds(run: Run) -> float:
    start = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - start) / 1000


def _edges(values: Sequence[float]) -> tuple[float, float]:
    deciles = statistics.quantiles(values, n=10)
    return deciles[0], deciles[8]


def machine() -> dict[str, object]:
    names = ("grpcio", "numpy", "onnxruntime", "protobuf")
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def write(figures: Sequence[Figure], folder: Path) -> None:
    """report.json for programs, report.md for people."""
    report = {"machine": machine(), "figures": [asdict(figure) for figure in figures]}
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    facts = ", ".join(f"{key} {value}" for key, value in machine().items())
    rows = "".join(
        f"| {f.name} | {f.ratio:.2f} | {f.ours:,.1f} ({f.spread[0]:,.1f}-{f.spread[1]:,.1f}) "
        f"| {f.theirs:,.1f} ({f.spread[2]:,.1f}-{f.spread[3]:,.1f}) | {f.unit} | {f.against} "
        f"| {_target(f)} |\n"
        for f in figures
    )
    (folder / "report.md").write_text(
        "# Benchmarks\n\n"
        f"{facts}\n\n"
        "Both sides take turns in one run; medians, with the 10th and 90th percentile.\n\n"
        "| figure | ratio | ours | theirs | unit | against | target |\n"
        "|---|---|---|---|---|---|---|\n" + rows
    )


def _target(figure: Figure) -> str:
    if figure.target is None:
        return "-"
    return f"<= {figure.target:g}, {'met' if figure.met else 'MISSED'}"
