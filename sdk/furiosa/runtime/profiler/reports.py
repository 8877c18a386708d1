"""The printed reports, as text. PURE. Source: runtime reference 10.2."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from furiosa.runtime._core.spans import Category, Span
from furiosa.runtime.profiler.table import table

EMPTY: Final = "DataFrame is empty."
_MOVES: Final = ("Execution", "Load", "Store")
_RULE: Final = "=" * 48
_PERCENTILES: Final = (90.0, 95.0, 97.0, 99.0, 99.9)


def npu_operators(spans: Sequence[Span], columns: int | None = None) -> str:
    """One row for each kind of operator, the slowest on average first."""
    durations: dict[str, list[int]] = defaultdict(list)
    for span in _of(spans, Category.NPU):
        if span.name not in _MOVES:
            durations[span.name].append(_duration(span))
    averages = {name: sum(found) / len(found) for name, found in durations.items()}
    rows = [
        (name, _decimal(averages[name]), str(len(durations[name])))
        for name in sorted(averages, key=lambda name: -averages[name])
    ]
    return _table(spans, ("name", "average_elapsed (ns)", "count"), rows, columns)


def npu_executions(spans: Sequence[Span], columns: int | None = None) -> str:
    """One row for each execution whose operators were measured: all, operators, the rest."""
    run: dict[int, int] = defaultdict(int)
    for span in _of(spans, Category.NPU):
        if span.name not in _MOVES:
            run[span.parent_id] += _duration(span)
    rows = [
        (
            *_ids(span),
            str(span.pe_index),
            str(span.execution_index),
            str(_duration(span)),
            str(run[span.span_id]),
            str(_duration(span) - run[span.span_id]),
        )
        for span in _of(spans, Category.NPU)
        if span.span_id in run
    ]
    indices = ("trace_id", "span_id", "pe_index", "execution_index")
    return _table(spans, (*indices, "NPU Total", "NPU Run", "NPU IoWait"), rows, columns)


def external_operators(spans: Sequence[Span], columns: int | None = None) -> str:
    """One row for each operator that ran on the CPU."""
    rows = [
        (
            *_ids(span),
            str(span.thread_id),
            span.name,
            str(span.operator_index),
            str(_duration(span)),
        )
        for span in _of(spans, Category.RUNTIME)
        if span.operator_index is not None
    ]
    header = ("trace_id", "span_id", "thread.id", "name", "operator_index", "dur")
    return _table(spans, header, rows, columns)


def inferences(spans: Sequence[Span], columns: int | None = None) -> str:
    rows = [
        (*_ids(span), str(span.thread_id), str(_duration(span)))
        for span in spans
        if span.name == "Inference"
    ]
    return _table(spans, ("trace_id", "span_id", "thread.id", "dur"), rows, columns)


def summary(spans: Sequence[Span]) -> str:
    """Of the inferences; percentiles are interpolated linearly, then cut to integers."""
    durations = sorted(_duration(span) for span in spans if span.name == "Inference")
    if not durations:
        return EMPTY
    lines = [
        ("Inference counts", len(durations)),
        ("Min latency (ns)", durations[0]),
        ("Max latency (ns)", durations[-1]),
        ("Mean latency (ns)", int(sum(durations) / len(durations))),
        ("Median latency (ns)", int(_percentile(durations, 50.0))),
        *((f"{p} percentile Latency (ns)", int(_percentile(durations, p))) for p in _PERCENTILES),
    ]
    texts = (f"{label:32}: {value}" for label, value in lines)
    return "\n".join((_RULE, "  Inference Results Summary", _RULE, *texts))


def _of(spans: Sequence[Span], category: Category) -> list[Span]:
    return [span for span in spans if span.category is category]


def _table(
    spans: Sequence[Span],
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    columns: int | None,
) -> str:
    return table(header, rows, columns) if spans else EMPTY


def _ids(span: Span) -> tuple[str, str]:
    return f"{span.trace_id:032x}", f"{span.span_id:016x}"


def _duration(span: Span) -> int:
    return span.end - span.start


def _decimal(value: float) -> str:
    """Up to 6 places, at least one."""
    whole, _, places = f"{value:.6f}".partition(".")
    return f"{whole}.{places.rstrip('0') or '0'}"


def _percentile(ascending: Sequence[int], percent: float) -> float:
    at = (len(ascending) - 1) * percent / 100
    below = math.floor(at)
    above = min(below + 1, len(ascending) - 1)
    return ascending[below] + (ascending[above] - ascending[below]) * (at - below)
