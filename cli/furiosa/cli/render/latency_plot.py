"""Latencies of a benchmark as a drawing: how they are distributed, and their course in time.

An SVG of its own, which follows the reader's light or dark scheme; the HTML page has it and a table.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from furiosa.cli.render.axis import Axis

WIDTH: Final = 960
HEIGHT: Final = 760
_LEFT: Final = 84  # of all panels
_RIGHT: Final = WIDTH - 28
_BARS: Final = 72
_STYLE: Final = """\
svg { --paper: #fff; --ink: #1b2026; --faint: #667079; --grid: #e3e7eb; --bar: #7fa8e0; --mark: #b3382c;
  --middle: #2463b8; --high: #d9822b; --top: #b9c0c7; font: 13px system-ui, sans-serif; }
@media (prefers-color-scheme: dark) { svg { --paper: #15191e; --ink: #e6eaee; --faint: #97a1ab;
  --grid: #2b323a; --bar: #4b7cc0; --mark: #ff8577; --middle: #7fb2ff; --high: #ffb066; --top: #59636e; } }
.paper { fill: var(--paper); } text { fill: var(--ink); } .faint { fill: var(--faint); }
.title { font-size: 19px; font-weight: 600; } .panel { font-weight: 600; }
.grid { stroke: var(--grid); } .bar { fill: var(--bar); } .bar:hover { fill: var(--middle); }
.mark { stroke: var(--mark); stroke-dasharray: 4 3; } .marked { fill: var(--mark); font-size: 12px; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; } .area { fill: var(--bar); opacity: .45; }
.p50 { stroke: var(--middle); } .p99 { stroke: var(--high); } .max { stroke: var(--top); }
.slot { fill: transparent; } .slot:hover { fill: var(--grid); opacity: .5; }
"""


@dataclass(frozen=True, slots=True)
class Bucket:
    """`count` latencies of `low` to below `high` microseconds."""

    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class Moment:
    """What ended from `start` to `end`, in seconds; latencies are in microseconds, 0 where none ended."""

    start: float
    end: float
    count: int
    p50: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Plot:
    """`stats`: microseconds by name, among them "50th percentile" and others. At least one bucket."""

    title: str
    subtitle: str
    buckets: tuple[Bucket, ...]
    stats: Mapping[str, int]
    course: tuple[Moment, ...]


def svg(plot: Plot) -> str:
    """A file of its own."""
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + _svg(plot)


def html(plot: Plot) -> str:
    """A page that needs nothing else."""
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{value:,} µs</td></tr>\n"
        for name, value in plot.stats.items()
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{escape(plot.title)}</title>\n<style>\n"
        ":root { color-scheme: light dark; }\n"
        "body { margin: 2rem auto; max-width: 960px; font: 15px system-ui, sans-serif;\n"
        "  background: light-dark(#fff, #15191e); color: light-dark(#1b2026, #e6eaee); }\n"
        "table { border-collapse: collapse; margin: 1.5rem 0 0 84px; }\n"
        "th { text-align: left; font-weight: 400; padding: .2rem 2rem .2rem 0; }\n"
        "td { text-align: right; font-variant-numeric: tabular-nums; }\n"
        "svg { width: 100%; height: auto; }\n"
        f"</style>\n</head>\n<body>\n{_svg(plot)}<table>\n{rows}</table>\n</body>\n</html>\n"
    )


def _svg(plot: Plot) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img">\n'
        f"<title>{escape(plot.title)}: {escape(plot.subtitle)}</title>\n"
        f"<style>\n{_STYLE}</style>\n"
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>\n'
    )
    parts = [
        _text(_LEFT, 36, plot.title, "title"),
        _text(_LEFT, 58, plot.subtitle, "faint"),
        *_distribution(plot),
        *_throughput(plot.course),
        *_latency(plot.course),
    ]
    return head + "".join(f"{part}\n" for part in parts) + "</svg>\n"


def _distribution(plot: Plot) -> Iterator[str]:
    top, bottom = 152, 344
    low, high = plot.buckets[0].low, plot.buckets[-1].high
    low, high = max(low, 0.001), max(high, 0.001)
    x = Axis(low / 1.08, high * 1.08, _LEFT, _RIGHT, is_log=True)
    counts = [0] * _BARS
    width = (_RIGHT - _LEFT) / _BARS
    for bucket in plot.buckets:
        place = x.at((bucket.low + bucket.high) / 2) - _LEFT
        counts[min(int(place / width), _BARS - 1)] += bucket.count
    total = sum(counts)
    y = Axis(0, max(counts) / total * 100 * 1.04, bottom, top)
    yield _text(_LEFT, top - 56, "Latency distribution", "panel")
    yield from _rules(y, 5, lambda share: f"{share:g} %")
    for number, count in enumerate(counts):
        if count:
            left, share = _LEFT + number * width, count / total * 100
            ends = [_value(x, left + side * width) for side in (0, 1)]
            hint = f"{_time(ends[0])} to {_time(ends[1])}: {share:.2g} %"
            # what is there can be seen, be it one of a million
            height = max(bottom - y.at(share), 1.0)
            yield (
                f'<rect class="bar" x="{left + 0.5:.1f}" y="{bottom - height:.1f}" '
                f'width="{width - 1:.1f}" height="{height:.1f}"><title>{hint}</title></rect>'
            )
    for tick in x.ticks(12):
        yield _text(x.at(tick), bottom + 20, _time(tick), "faint", "middle")
    yield from _marks(plot.stats, x, top, bottom)


def _marks(stats: Mapping[str, int], x: Axis, top: float, bottom: float) -> Iterator[str]:
    """Percentiles, each label in a row of its own: they may be close together."""
    row = top - 42
    for name, value in stats.items():
        rank, found, _ = name.partition("th percentile")
        if not found:
            continue
        place, label = x.at(value), f"p{rank} {_time(value)}"
        yield (
            f'<line class="mark" x1="{place:.1f}" x2="{place:.1f}" y1="{row:.1f}" y2="{bottom}"/>'
        )
        if place > _RIGHT - 110:
            yield _text(place - 4, row + 10, label, "marked", "end")
        else:
            yield _text(place + 4, row + 10, label, "marked")
        row += 14


def _throughput(course: Sequence[Moment]) -> Iterator[str]:
    top, bottom = 418, 518
    x = _seconds(course)
    rates = [moment.count / max(moment.end - moment.start, 1e-9) for moment in course]
    y = Axis(0, max(*rates, 1.0) * 1.08, bottom, top)
    yield _text(_LEFT, top - 14, "Queries per second", "panel")
    yield from _rules(y, 5, lambda rate: f"{rate:,g}" if rate < 1e6 else f"{rate:,.0f}")
    steps = [f"M{_LEFT},{bottom}"]
    for moment, rate in zip(course, rates, strict=True):
        steps.append(f"V{y.at(rate):.1f}H{x.at(moment.end):.1f}")
    path = "".join(steps)
    yield f'<path class="area" d="{path}V{bottom}Z"/>'
    yield f'<path class="line p50" d="{path}"/>'


def _latency(course: Sequence[Moment]) -> Iterator[str]:
    top, bottom = 582, 706
    x = _seconds(course)
    filled = [moment for moment in course if moment.count]
    low = min(moment.p50 for moment in filled)
    high = max(moment.max for moment in filled)
    y = Axis(max(low, 0.001) / 1.3, max(high, 0.001) * 1.3, bottom, top, is_log=True)
    yield _text(_LEFT, top - 14, "Latency", "panel")
    lines: tuple[tuple[str, str, Callable[[Moment], float]], ...] = (
        ("max", "max", lambda moment: moment.max),
        ("p99", "p99", lambda moment: moment.p99),
        ("p50", "p50", lambda moment: moment.p50),
    )
    yield from _rules(y, 6, _time)
    for number, (style, label, value) in enumerate(lines, 1):
        left = _RIGHT - 70 * number
        yield f'<line class="line {style}" x1="{left}" x2="{left + 22}" y1="{top - 18}" y2="{top - 18}"/>'
        yield _text(left + 28, top - 14, label, "faint")
        points = [
            f"{x.at((moment.start + moment.end) / 2):.1f},{y.at(value(moment)):.1f}"
            for moment in filled
        ]
        if len(points) == 1:  # a line needs two
            points = [
                f"{_LEFT},{points[0].partition(',')[2]}",
                f"{_RIGHT},{points[0].partition(',')[2]}",
            ]
        yield f'<polyline class="line {style}" points="{" ".join(points)}"/>'
    for moment in filled:
        begin, end = x.at(moment.start), x.at(moment.end)
        hint = (
            f"{moment.start:.3g} to {moment.end:.3g} s: {moment.count:,} queries, "
            f"p50 {_time(moment.p50)}, p99 {_time(moment.p99)}, max {_time(moment.max)}"
        )
        yield (
            f'<rect class="slot" x="{begin:.1f}" y="{top}" width="{max(end - begin, 1):.1f}" '
            f'height="{bottom - top}"><title>{hint}</title></rect>'
        )
    for tick in x.ticks(10):
        yield _text(x.at(tick), bottom + 20, _time(tick * 1e6) if tick else "0", "faint", "middle")


def _seconds(course: Sequence[Moment]) -> Axis:
    return Axis(0, max(course[-1].end, 1e-6), _LEFT, _RIGHT)


def _rules(y: Axis, most: int, label: Callable[[float], str]) -> Iterator[str]:
    for tick in y.ticks(most):
        place = y.at(tick)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{place:.1f}" y2="{place:.1f}"/>'
        yield _text(_LEFT - 10, place + 4, label(tick), "faint", "end")


def _text(x: float, y: float, text: str, style: str, anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _value(axis: Axis, place: float) -> float:
    """What a logarithmic axis has at so many pixels."""
    share = (place - axis.start) / (axis.end - axis.start)
    return float(axis.low * (axis.high / axis.low) ** share)


def _time(microseconds: float) -> str:
    """With a unit that people read."""
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if microseconds >= size:
            return f"{microseconds / size:.3g} {unit}"
    return f"{microseconds:.3g} µs"
