"""furiosa.runtime.bench on a real broker."""

import hashlib
import json
from pathlib import Path

import pytest

from furiosa.runtime import FuriosaRuntimeError
from furiosa.runtime.bench import BenchConfig, BenchRunner, Workload
from support import digits
from support.daemon import Daemon


@pytest.fixture(scope="module")
def enf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("programs") / "digits.enf"
    path.write_bytes(digits.program())
    return path


async def test_queries_are_counted_and_traced(daemon: Daemon, enf: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    config = BenchConfig(enf, trace_output=trace, devices="npu0pe0", queries=20)
    report = await BenchRunner(config, "L").run()
    assert report.workload is Workload.LATENCY
    assert len(report.latencies) == 20
    assert sum(report.latencies) <= report.run_time
    assert report.md5 == hashlib.md5(enf.read_bytes()).hexdigest()
    names = [event["name"] for event in json.loads(trace.read_text())]
    assert names.count("Inference") == 20


async def test_throughput_keeps_all_workers_of_all_devices_busy(daemon: Daemon, enf: Path) -> None:
    config = BenchConfig(enf, devices="warboy*2", workers=2, queries=400)
    report = await BenchRunner(config, "throughput").run()
    assert len(report.latencies) >= 400
    assert sum(report.latencies) > report.run_time  # they overlap


async def test_the_time_is_a_minimum_too(daemon: Daemon, enf: Path) -> None:
    config = BenchConfig(enf, devices="npu0pe0", duration=0.2)
    report = await BenchRunner(config).run()
    assert report.run_time >= 200_000
    assert len(report.latencies) > 1


async def test_an_unknown_device_is_an_error_and_holds_nothing(daemon: Daemon, enf: Path) -> None:
    with pytest.raises(FuriosaRuntimeError, match="npu:7:0 not found"):
        await BenchRunner(BenchConfig(enf, devices="npu7pe0")).run()
    assert "0 (available), 1 (available)" in daemon.furiosactl("list").stdout
