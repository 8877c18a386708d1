"""JSON reports of benchmarks, read again."""

import json
from typing import Any

import pytest

from furiosa.runtime.bench.comparison import BadReport, SavedReport, differences, figures


def a_report(**changes: Any) -> dict[str, Any]:
    stats = {"min": 1, "max": 9, "mean": 4}
    stats |= {f"{rank} percentile": 5 for rank in ("50th", "95th", "99th", "99.9th")}
    return {
        "model_data": {"path": "a.onnx", "md5": "abc  a.onnx"},
        "result": {
            "mode": "Latency",
            "total run time": "10 us",
            "total num queries": 3,
            "batch size": 1,
            "qps": "33.31/s",
            "latency stats": {key: f"{value} us" for key, value in stats.items()},
            **changes,
        },
    }


def parsed(**changes: Any) -> SavedReport:
    return SavedReport.parse(json.dumps(a_report(**changes)))


def test_more_queries_a_second_and_less_latency_are_better() -> None:
    stats = a_report()["result"]["latency stats"]
    second = parsed(qps="66.62/s", **{"latency stats": {**stats, "max": "18 us", "min": "0 us"}})
    found = {figure.name: figure for figure in figures(parsed(), second)}
    assert list(found) == [
        *("QPS", "min", "max", "mean"),
        *(f"{rank} percentile" for rank in ("50th", "95th", "99th", "99.9th")),
    ]
    assert found["QPS"].change == pytest.approx(100)
    assert found["max"].change == pytest.approx(100)
    verdicts = {name: figure.is_better for name, figure in found.items()}
    assert verdicts["QPS"]
    assert verdicts["min"]
    assert verdicts["max"] is False
    assert verdicts["mean"] is None


def test_from_nothing_there_is_no_change_in_percent() -> None:
    first = parsed(qps="0.00/s")
    assert next(figures(first, parsed())).change is None


def test_what_else_differs_is_said() -> None:
    other = SavedReport.parse(
        json.dumps(
            a_report(mode="Throughput", **{"batch size": 8})
            | {"model_data": {"path": "b.onnx", "md5": "def  b.onnx"}}
        )
    )
    assert list(differences(parsed(), other)) == [
        "models: a.onnx, b.onnx",
        "workloads: Latency, Throughput",
        "batch sizes: 1, 8",
    ]
    assert list(differences(parsed(), parsed())) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Expecting value"),
        ("[]", "list indices"),
        ("{}", "no 'result'"),
        (json.dumps(a_report(qps="fast")), "'fast' is no figure"),
        (json.dumps(a_report(qps=3)), "expected string"),
        (json.dumps(a_report(**{"latency stats": {}})), "no 'min'"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_what_is_no_report_is_refused(text: str, said: str) -> None:
    with pytest.raises(BadReport, match=said):
        SavedReport.parse(text)
