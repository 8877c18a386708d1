"""Reports of furiosa.runtime.bench, without a device."""

import json
from typing import Any, cast

import pytest

from furiosa.runtime import FuriosaRuntimeError, Runner
from furiosa.runtime.bench import BenchConfig, BenchReport, BenchRunner, Workload

REPORT = BenchReport(
    workload=Workload.LATENCY,
    path="mnist-8.onnx",
    md5="0" * 32,
    batch=2,
    run_time=2_000_000,
    latencies=tuple(range(1, 1001)),
)


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
        "50th percentile (us): 501",
        "95th percentile (us): 951",
        "99th percentile (us): 991",
        "99th percentile (us): 1000",
    ]


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
            "50th percentile": "501 us",
            "95th percentile": "951 us",
            "99th percentile": "991 us",
            "99.9th percentile": "1000 us",
        },
    }


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"batch": 3}, "batch: expected a power of two, found 3"),
        ({"batch": 0}, "batch: expected a power of two, found 0"),
        ({"queries": 0}, "queries: expected 1 or more, found 0"),
        ({"duration": float("nan")}, "duration: expected 0 or more seconds, found nan"),
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


class Failing:
    """A runner whose device is gone."""

    def allocate(self) -> list[object]:
        return []

    async def run(self, inputs: object) -> None:
        raise FuriosaRuntimeError("gone")


async def test_a_query_that_fails_ends_the_benchmark_with_its_error() -> None:
    with pytest.raises(FuriosaRuntimeError, match="gone"):
        await BenchRunner(BenchConfig("model.onnx"))._measured(cast("Runner", Failing()), 1)
