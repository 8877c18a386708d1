"""Reports, tables, CSV and DataFrames of recorded spans, against texts and numbers worked out by hand."""

import csv
import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from furiosa.runtime._core.spans import Category, Span
from furiosa.runtime.profiler import RecordFormat, Resource, profile, reports
from furiosa.runtime.profiler.frame import COLUMNS, comma_separated, frame
from furiosa.runtime.profiler.table import table

TRACE = 0xAB


def npu(name: str, span_id: int, parent: int, dur: int, instruction: int | None = None) -> Span:
    numbers = (TRACE, parent, span_id, 1000, 1000 + dur)
    return Span(*numbers, Category.NPU, name, 9, 0, 1, 0, instruction)


def cpu(name: str, span_id: int, dur: int, operator: int | None = None) -> Span:
    numbers = (TRACE, 0, span_id, 500, 500 + dur)
    return Span(*numbers, Category.RUNTIME, name, 9, operator_index=operator)


SPANS = (
    cpu("Inference", 1, 2000),
    npu("Execution", 2, 1, 1000),
    npu("Load", 3, 2, 50),
    npu("LowLevelConv2d", 4, 2, 600, 0),
    npu("LowLevelConv2d", 5, 2, 101, 1),
    npu("LowLevelPad", 6, 2, 100, 2),
    npu("Store", 7, 2, 50),
    npu("Execution", 8, 1, 7),
    cpu("Quantize", 0x10, 30, 4),
)


def cells(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("│").split("┆")]
        for line in text.splitlines()
        if line.startswith("│")
    ]


def test_a_table_has_these_lines() -> None:
    assert table(("a", "bcd"), (("long", "1"), ("x", ""))) == (
        "┌──────┬─────┐\n"
        "│ a    ┆ bcd │\n"
        "╞══════╪═════╡\n"
        "│ long ┆ 1   │\n"
        "│ x    ┆     │\n"
        "└──────┴─────┘"
    )


def test_long_cells_wrap_where_the_terminal_is_narrow() -> None:
    text = table(("id", "n"), (("0123456789abcdef", "5"),), columns=20)
    assert text.splitlines()[3:-1] == [
        "│ 0123456789ab ┆ 5 │",
        "│ cdef         ┆   │",
    ]
    assert {len(line) for line in text.splitlines()} == {20}


def test_operators_are_grouped_and_the_slowest_comes_first() -> None:
    assert cells(reports.npu_operators(SPANS)) == [
        ["name", "average_elapsed (ns)", "count"],
        ["LowLevelConv2d", "350.5", "2"],
        ["LowLevelPad", "100.0", "1"],
    ]


def test_an_average_has_six_places_at_most() -> None:
    spans = [npu("LowLevelPad", k, 0, dur, k) for k, dur in enumerate((1, 1, 2))]
    assert cells(reports.npu_operators(spans))[1] == ["LowLevelPad", "1.333333", "3"]


def test_executions_that_were_measured_are_listed_with_what_is_left() -> None:
    assert cells(reports.npu_executions(SPANS)) == [
        [
            *("trace_id", "span_id", "pe_index", "execution_index"),
            *("NPU Total", "NPU Run", "NPU IoWait"),
        ],
        [f"{TRACE:032x}", f"{2:016x}", "1", "0", "1000", "801", "199"],
    ]


def test_external_operators_and_inferences_are_those_of_the_cpu() -> None:
    assert cells(reports.external_operators(SPANS))[1:] == [
        [f"{TRACE:032x}", f"{16:016x}", "9", "Quantize", "4", "30"]
    ]
    assert cells(reports.inferences(SPANS))[1:] == [
        [f"{TRACE:032x}", f"{1:016x}", "9", "2000"],
    ]


def test_the_summary_is_exact() -> None:
    spans = [cpu("Inference", k, dur) for k, dur in enumerate((40, 10, 20, 30))]
    assert reports.summary(spans).splitlines() == [
        "=" * 48,
        "  Inference Results Summary",
        "=" * 48,
        "Inference counts                : 4",
        "Min latency (ns)                : 10",
        "Max latency (ns)                : 40",
        "Mean latency (ns)               : 25",
        "Median latency (ns)             : 25",
        "90.0 percentile Latency (ns)    : 37",
        "95.0 percentile Latency (ns)    : 38",
        "97.0 percentile Latency (ns)    : 39",
        "99.0 percentile Latency (ns)    : 39",
        "99.9 percentile Latency (ns)    : 39",
    ]


@pytest.mark.parametrize(
    "report",
    [
        reports.npu_operators,
        reports.npu_executions,
        reports.external_operators,
        reports.inferences,
        reports.summary,
    ],
)
def test_of_nothing_every_report_says_so(report: Callable[[Sequence[Span]], str]) -> None:
    assert report(()) == "DataFrame is empty."


def test_csv_has_the_published_columns() -> None:
    header, *rows = csv.reader(io.StringIO(comma_separated(SPANS)))
    assert tuple(header) == COLUMNS
    assert len(rows) == len(SPANS)
    assert dict(zip(header, rows[3], strict=True)) == {
        "trace_id": f"{TRACE:032x}",
        "parent_span_id": f"{2:016x}",
        "span_id": f"{4:016x}",
        "start": "1000",
        "end": "1600",
        "cat": "NPU",
        "name": "LowLevelConv2d",
        "thread.id": "9",
        "dram_base": "0",
        "pe_index": "1",
        "execution_index": "0",
        "instruction_index": "0",
        "operator_index": "",
        "dur": "600",
    }


def recorded(
    spans: Sequence[Span], file: io.StringIO, resource: Resource = Resource.All
) -> profile:
    class Entry:
        def spans(self, offset: int) -> Sequence[Span]:
            return spans

    with profile(resource, RecordFormat.PandasDataFrame, file) as profiler:
        profiler._running().entries.append(Entry())
    return profiler


def test_a_dataframe_is_there_after_the_context() -> None:
    pd = pytest.importorskip("pandas")
    file = io.StringIO()
    profiler = recorded(SPANS, file)
    found = profiler.get_pandas_dataframe()
    assert tuple(found.columns) == COLUMNS
    assert len(found) == len(SPANS)
    assert found["operator_index"].isna().tolist() == [True] * 8 + [False]
    assert {str(found[name].dtype) for name in ("pe_index", "operator_index")} == {"Int64"}
    assert {str(found[name].dtype) for name in ("start", "dur")} == {"int64"}
    assert profiler.get_npu_pandas_dataframe()["name"].tolist()[0] == "Execution"
    assert profiler.get_cpu_pandas_dataframe()["name"].tolist() == ["Inference", "Quantize"]
    pads = profiler.get_pandas_dataframe_with_filter("name", "LowLevelPad")
    assert pads["dur"].tolist() == [100]
    file.seek(0)
    assert pd.read_csv(file)["dur"].tolist() == found["dur"].tolist()
    assert frame(()).empty


def test_reports_are_printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    profiler = recorded(SPANS, io.StringIO(), Resource.NPU)
    profiler.print_npu_operators()
    profiler.print_npu_executions()
    profiler.print_external_operators()
    profiler.print_inferences()
    profiler.print_summary()
    assert capsys.readouterr().out.splitlines() == [
        *reports.npu_operators(SPANS).splitlines(),
        *reports.npu_executions(SPANS).splitlines(),
        *table(
            ("trace_id", "span_id", "thread.id", "name", "operator_index", "dur"), ()
        ).splitlines(),
        *table(("trace_id", "span_id", "thread.id", "dur"), ()).splitlines(),
        "DataFrame is empty.",
    ]
    path = tmp_path / "trace.json"
    profiler.export_chrome_trace(str(path))
    assert sum(event["ph"] == "X" for event in json.loads(path.read_text())) == 7


def test_without_pandas_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'furiosa-broker\[profiler\]'"):
        frame(SPANS)
