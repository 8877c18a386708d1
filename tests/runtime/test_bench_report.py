"""Reports of furiosa.runtime.bench, without a device."""

import json
from dataclasses import replace
from typing import Any

import pytest

from furiosa.runtime.bench import (
    BenchConfig,
    BenchReport,
    BenchRunner,
    Histogram,
    Timeline,
    Workload,
)


def a_report(workload: Workload = Workload.LATENCY) -> BenchReport:
    """1000 queries of 1, 2, ... 1000 us in two seconds."""
    latencies, timeline = Histogram(), Timeline()
    for us in range(1, 1001):
        latencies.record(us * 1000)
        timeline.record(us * 2_000_000 - 1, us * 1000)
    return BenchReport(
        workload=workload,
        path="mnist-8.onnx",
        md5="0" * 32,
        batch=2,
        run_time=2_000_000_000,
        latencies=latencies,
        without_omissions=latencies,
        timeline=timeline,
    )


REPORT = a_report()
SENTENCE = (
    "This benchmark was executed with latency-workload which prioritizes latency of individual"
    " queries over throughput."
)


def test_the_text_is_the_published_one() -> None:
    assert REPORT.text().splitlines() == [
        "=" * 70,
        SENTENCE,
        "1000 queries executed with batch size 2",
        "Latency stats are as follows",
        "QPS(Throughput): 500.00/s",
        "",
        "Per-query latency:",
        "Min latency (us)    : 1",
        "Max latency (us)    : 1000",
        "Mean latency (us)   : 500",
        "50th percentile (us): 500",
        "95th percentile (us): 950",
        "99th percentile (us): 990",
        "99th percentile (us): 999",
    ]


def test_the_other_workload_swaps_the_nouns() -> None:
    assert a_report(Workload.THROUGHPUT).text().splitlines()[1] == (
        "This benchmark was executed with throughput-workload which prioritizes throughput over"
        " latency of individual queries."
    )
    assert json.loads(a_report(Workload.THROUGHPUT).json())["result"]["mode"] == "Throughput"


def test_only_percentiles_are_without_omissions() -> None:
    latencies = Histogram()
    for us in (*[1000] * 39, 61_000):
        latencies.record(us * 1000)
    report = replace(
        a_report(Workload.THROUGHPUT),
        latencies=latencies,
        without_omissions=latencies.without_omissions(),
        run_time=100_000_000,
    )
    assert (report.queries, report.stats["mean"]) == (40, 2500)
    assert report.qps * report.stats["mean"] == pytest.approx(1e6)  # one lane, always busy
    assert report.stats["95th percentile"] > 50_000  # of the 40 it would be 1000


def test_of_one_query_all_figures_are_the_same() -> None:
    latencies = Histogram()
    latencies.record(7_448_123)
    timeline = Timeline()
    report = BenchReport(Workload.LATENCY, "m", "0", 1, 8_000_000, latencies, latencies, timeline)
    assert set(report.stats.values()) == {7448}
    assert "1 queries executed with batch size 1" in report.text()
    assert "QPS(Throughput): 125.00/s" in report.text()


def test_json_names_each_percentile_by_its_rank() -> None:
    content = json.loads(REPORT.json())
    assert REPORT.json().startswith('{\n    "model_data"')
    assert content["model_data"] == {
        "path": "mnist-8.onnx",
        "md5": f"{'0' * 32}  mnist-8.onnx",
    }
    assert content["result"] == {
        "mode": "Latency",
        "total run time": "2000000 us",
        "total num queries": 1000,
        "batch size": 2,
        "qps": "500.00/s",
        "latency stats": {
            "min": "1 us",
            "max": "1000 us",
            "mean": "500 us",
            "50th percentile": "500 us",
            "95th percentile": "950 us",
            "99th percentile": "990 us",
            "99.9th percentile": "999 us",
        },
    }


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"batch": 3}, "batch: expected a power of two, found 3"),
        ({"batch": 0}, "batch: expected a power of two, found 0"),
        ({"queries": 0}, "queries: expected 1 or more, found 0"),
        ({"duration": float("nan")}, "duration: expected 0 or more seconds, found nan"),
        ({"duration": float("inf")}, "duration: expected 0 or more seconds, found inf"),
        ({"workers": 0}, "workers: expected 1 to 1024, found 0"),
        ({"io_threads": 2000}, "io_threads: expected 1 to 1024, found 2000"),
        ({"warm_up": -1}, "warm_up: expected 0 or more, found -1"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_its_name(
    fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        BenchConfig("model.onnx", **fields)


def test_an_unknown_workload_is_refused() -> None:
    with pytest.raises(ValueError, match="L, T, latency, throughput; found 'l'"):
        BenchRunner(BenchConfig("model.onnx"), "l")
