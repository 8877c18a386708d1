"""Spans in the trace event format, for Perfetto and chrome://tracing. PURE.

Source: runtime reference 10.3.
"""

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any, Final

from furiosa.runtime._core.spans import Category, Span

FIRST_NPU_THREAD: Final = 10_000_000


def chrome_trace(spans: Sequence[Span]) -> str:
    """A JSON array; times are us from the earliest start."""
    return json.dumps(list(_events(spans)), indent=None, separators=(",", ":"))


def _events(spans: Sequence[Span]) -> Iterator[dict[str, Any]]:
    pid = os.getpid()
    origin = min((span.start for span in spans), default=0)
    for pe in sorted({span.pe_index for span in spans if span.pe_index is not None}):
        yield {
            "name": "thread_name",
            "ph": "M",
            "pid": pid,
            "tid": FIRST_NPU_THREAD + pe,
            "args": {"name": f"NPU {pe}"},
        }
    for span in spans:
        yield {
            "name": span.name,
            "cat": span.category.value,
            "ph": "X",
            "ts": (span.start - origin) / 1000,
            "dur": (span.end - span.start) / 1000,
            "pid": pid,
            "tid": _thread(span),
            "args": dict(_arguments(span)),
        }


def _thread(span: Span) -> int:
    if span.category is Category.NPU and span.pe_index is not None:
        return FIRST_NPU_THREAD + span.pe_index
    return span.thread_id


def _arguments(span: Span) -> Iterator[tuple[str, str]]:
    names = (
        ("pe_index", "execution_index", "instruction_index")
        if span.category is Category.NPU
        else ("operator_index",)
    )
    for name in names:
        value = getattr(span, name)
        if value is not None:
            yield name, str(value)
