"""Addresses for things that live for a while: no two overlap while both are alive."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from furiosa.enf.limits import aligned


@dataclass(frozen=True, slots=True)
class Interval:
    """Lives from step `first` to step `last`, both included."""

    first: int
    last: int
    nbytes: int

    @property
    def size(self) -> int:
        return aligned(self.nbytes)


@dataclass(frozen=True, slots=True)
class Arrangement:
    """An offset, a multiple of the alignment, for each interval; all end at or before `peak`."""

    offsets: Sequence[int]
    peak: int


@dataclass(frozen=True, slots=True)
class Effort:
    """At most `attempts` changes of the order are tried while more than `enough` bytes are in use."""

    attempts: int
    enough: int = 0
    seed: int = 0
    is_random_start: bool = False


def arrange(intervals: Sequence[Interval], effort: Effort) -> Arrangement:
    """The best found: the lowest address that is free, in several orders, then in orders near the best.

    The orders: largest first, largest in bytes times steps first, longest first, earliest first. The
    search swaps two places at random and keeps the new order if its peak exceeds that of the last one
    by no more than a margin, which falls from a sixteenth to nothing. No plan beats the most bytes
    alive at once, so it ends there. Equal arguments give equal results.
    """
    if not intervals:
        return Arrangement((), 0)
    sizes = [interval.size for interval in intervals]
    spans = [interval.last - interval.first + 1 for interval in intervals]
    numbers = range(len(intervals))
    least = most_alive(intervals)
    meeting = _meeting(intervals)
    best: Arrangement | None = None
    order: list[int] = []
    for keys in (
        [(-sizes[n], intervals[n].first, n) for n in numbers],
        [(-sizes[n] * spans[n], intervals[n].first, n) for n in numbers],
        [(-spans[n], -sizes[n], n) for n in numbers],
        [(intervals[n].first, -sizes[n], n) for n in numbers],
    ):
        tried = [key[-1] for key in sorted(keys)]
        found = _fitted(tried, sizes, meeting)
        if best is None or found.peak < best.peak:
            best, order = found, tried
        if best.peak == least:
            break
    assert best is not None
    if best.peak > max(least, effort.enough) and len(intervals) > 1:
        best = _searched(best, order, sizes, meeting, max(least, effort.enough), effort)
    return best


def most_alive(intervals: Sequence[Interval]) -> int:
    """The most bytes that are alive at one step."""
    change: dict[int, int] = {}
    for interval in intervals:
        change[interval.first] = change.get(interval.first, 0) + interval.size
        change[interval.last + 1] = change.get(interval.last + 1, 0) - interval.size
    most = alive = 0
    for step in sorted(change):
        alive += change[step]
        most = max(most, alive)
    return most


def _meeting(intervals: Sequence[Interval]) -> list[list[int]]:
    """Of each interval: those alive with it at some step."""
    meeting: list[list[int]] = [[] for _ in intervals]
    alive: list[int] = []
    for new in sorted(range(len(intervals)), key=lambda n: intervals[n].first):
        alive = [n for n in alive if intervals[n].last >= intervals[new].first]
        for old in alive:
            meeting[old].append(new)
        meeting[new] += alive
        alive.append(new)
    return meeting


def _fitted(
    order: Sequence[int], sizes: Sequence[int], meeting: Sequence[Sequence[int]]
) -> Arrangement:
    offsets = [-1] * len(sizes)
    peak = 0
    for new in order:
        taken = [(offsets[n], offsets[n] + sizes[n]) for n in meeting[new] if offsets[n] >= 0]
        taken.sort()
        offset = 0
        for start, end in taken:
            if offset + sizes[new] <= start:
                break
            if end > offset:
                offset = end
        offsets[new] = offset
        peak = max(peak, offset + sizes[new])
    return Arrangement(offsets, peak)


def _searched(
    best: Arrangement,
    order: list[int],
    sizes: Sequence[int],
    meeting: Sequence[Sequence[int]],
    enough: int,
    effort: Effort,
) -> Arrangement:
    random = Random(effort.seed)

    def below(bound: int) -> int:
        return int(random.random() * bound)  # the one method that is the same in every version

    if effort.is_random_start:
        for n in range(len(order) - 1, 0, -1):
            other = below(n + 1)
            order[n], order[other] = order[other], order[n]
    margin, peak = best.peak // 16, _fitted(order, sizes, meeting).peak
    for attempt in range(effort.attempts):
        if best.peak <= enough:
            break
        left, right = below(len(order)), below(len(order))
        order[left], order[right] = order[right], order[left]
        found = _fitted(order, sizes, meeting)
        allowed = margin * (effort.attempts - 1 - attempt) // effort.attempts
        if found.peak > peak + allowed:
            order[left], order[right] = order[right], order[left]
        else:
            peak = found.peak
        if found.peak < best.peak:
            best = found
    return best
