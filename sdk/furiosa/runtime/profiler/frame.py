"""Spans as rows: a pandas DataFrame, or CSV. Source: runtime reference 10.1."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from furiosa.runtime._core.spans import Span

if TYPE_CHECKING:
    import pandas as pd  # an extra, and slow to import

NULLABLE: Final = (
    "dram_base",
    "pe_index",
    "execution_index",
    "instruction_index",
    "operator_index",
)
COLUMNS: Final = (
    *("trace_id", "parent_span_id", "span_id", "start", "end", "cat", "name", "thread.id"),
    *NULLABLE,
    "dur",
)
_INTEGERS: Final = ("start", "end", "thread.id", "dur")


def frame(spans: Sequence[Span]) -> "pd.DataFrame":
    """One row for each span. Raises: ModuleNotFoundError without pandas."""
    try:
        import pandas as pd
    except ModuleNotFoundError:
        text = "DataFrames need pandas: pip install 'furiosa-broker[profiler]'"
        raise ModuleNotFoundError(text, name="pandas") from None
    made = pd.DataFrame(list(_rows(spans)), columns=list(COLUMNS))
    return made.astype(dict.fromkeys(NULLABLE, "Int64") | dict.fromkeys(_INTEGERS, "int64"))


def comma_separated(spans: Sequence[Span]) -> str:
    """The same rows below a header; what is not there is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_rows(spans))
    return text.getvalue()


def _rows(spans: Sequence[Span]) -> Iterator[tuple[str | int | None, ...]]:
    for span in spans:
        yield (
            f"{span.trace_id:032x}",
            f"{span.parent_id:016x}",
            f"{span.span_id:016x}",
            span.start,
            span.end,
            span.category.value,
            span.name,
            span.thread_id,
            *(getattr(span, name) for name in NULLABLE),
            span.end - span.start,
        )
