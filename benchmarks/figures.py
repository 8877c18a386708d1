"""A figure: one side beside another or beside a bound, as a ratio, with its target."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Bound = Literal["at most", "at least"]


@dataclass(frozen=True, slots=True)
class Figure:
    """`ratio` = ours / theirs; `target` is what it must be `bound`, None: only measured.

    `spread` is (p10, p90) of ours then of theirs, in `unit`. `conditions` says what one must know to
    read it: how many processes, how busy the server was, which limit it is.
    """

    name: str
    ratio: float
    ours: float
    theirs: float
    unit: str
    against: str
    target: float | None
    bound: Bound
    met: bool | None
    spread: tuple[float, float, float, float]
    conditions: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A figure that could not be taken on this machine, and why."""

    name: str
    reason: str


Found = Figure | Skipped
Run = Callable[[], object]


def beside(
    name: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    unit: str,
    against: str,
    target: float | None = None,
    bound: Bound = "at most",
    conditions: str = "",
) -> Figure:
    """Medians of two lists of samples that were taken in turn."""
    left, right = statistics.median(ours), statistics.median(theirs)
    spread = (*_edges(ours), *_edges(theirs))
    ratio = left / right
    met = _met(ratio, target, bound)
    return Figure(name, ratio, left, right, unit, against, target, bound, met, spread, conditions)


def in_turn(
    name: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    unit: str,
    against: str,
    target: float | None = None,
    bound: Bound = "at most",
    conditions: str = "",
) -> Figure:
    """As `beside`, of values taken next to each other: the ratio is the median of their ratios."""
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    left, right = statistics.median(ours), statistics.median(theirs)
    spread = (*_edges(ours), *_edges(theirs))
    met = _met(ratio, target, bound)
    return Figure(name, ratio, left, right, unit, against, target, bound, met, spread, conditions)


def single(
    name: str,
    ours: float,
    theirs: float,
    *,
    unit: str,
    against: str,
    target: float | None = None,
    bound: Bound = "at most",
    conditions: str = "",
) -> Figure:
    """Two numbers without a spread, such as two quantiles or an extreme and its bound."""
    ratio = ours / theirs
    met = _met(ratio, target, bound)
    spread = (ours, ours, theirs, theirs)
    return Figure(name, ratio, ours, theirs, unit, against, target, bound, met, spread, conditions)


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
    return beside(name, a, b, unit="us", against=against, target=target)


def within(
    name: str,
    samples: Sequence[float],
    limit: float,
    *,
    unit: str,
    against: str,
    conditions: str = "",
) -> Figure:
    """The 99th percentile of samples against a bound that it must keep."""
    ours = p99(samples)
    spread = (*_edges(samples), limit, limit)
    shown = f"p50 {statistics.median(samples):.3g}, worst {max(samples):.3g} {unit}"
    conditions = f"{len(samples)} rounds, {shown}" + (f"; {conditions}" if conditions else "")
    ratio = ours / limit
    return Figure(
        name, ratio, ours, limit, unit, against, 1.0, "at most", ratio <= 1.0, spread, conditions
    )


def p99(samples: Sequence[float]) -> float:
    """By nearest rank: with fewer than 100 samples the worst."""
    return sorted(samples)[math.ceil(0.99 * len(samples)) - 1]


def _met(ratio: float, target: float | None, bound: Bound) -> bool | None:
    if target is None:
        return None
    return ratio <= target if bound == "at most" else ratio >= target


def _microseconds(run: Run) -> float:
    start = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - start) / 1000


def _edges(values: Sequence[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    deciles = statistics.quantiles(values, n=10, method="inclusive")
    return deciles[0], deciles[8]
