"""furiosa.runtime.bench on a real broker."""

import asyncio
import hashlib
import json
from pathlib import Path

import pytest

from furiosa.runtime import FuriosaRuntimeError
from furiosa.runtime.bench import BenchConfig, BenchRunner, Stage, Workload
from support import digits, models
from support.daemon import Daemon
from support.waiting import until


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
    assert report.queries == report.latencies.count == 20
    assert report.latencies.total <= report.run_time
    assert report.without_omissions is report.latencies
    assert report.md5 == hashlib.md5(enf.read_bytes()).hexdigest()
    names = [event["name"] for event in json.loads(trace.read_text())]
    assert names.count("Inference") == 20


async def test_throughput_keeps_all_workers_of_all_devices_busy(daemon: Daemon, enf: Path) -> None:
    config = BenchConfig(enf, devices="warboy*2", workers=2, queries=400)
    runner = BenchRunner(config, "throughput")
    report = await runner.run()
    assert report.queries >= 400
    assert report.latencies.total > report.run_time  # they overlap
    corrected = report.latencies.without_omissions()
    assert list(report.without_omissions.buckets()) == list(corrected.buckets())
    assert runner.devices == ("npu0pe0", "npu0pe1")


async def test_threads_send_queries_too(daemon: Daemon, enf: Path) -> None:
    config = BenchConfig(enf, devices="npu0pe0", workers=2, io_threads=3, queries=100)
    report = await BenchRunner(config, "T").run()
    assert report.queries == 100
    assert report.latencies.total > report.run_time
    assert "0 (available), 1 (available)" in daemon.furiosactl("list").stdout


async def test_who_gives_up_on_threads_leaves_nothing_behind(daemon: Daemon, enf: Path) -> None:
    config = BenchConfig(enf, devices="npu0pe0", io_threads=2, duration=1e6)
    runner = BenchRunner(config, "T")
    running = asyncio.create_task(runner.run())
    await until(lambda: runner.queries >= 3)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert runner.report().queries >= 3
    await until(lambda: "0 (available)" in daemon.furiosactl("list").stdout)


async def test_a_compiled_model_says_its_batch_size(daemon: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(models.quantized(models.residual_cnn()).SerializeToString())
    config = BenchConfig(path, devices="npu0pe0", batch=2)
    assert (await BenchRunner(config).run()).batch == 2


async def test_it_can_be_stopped(daemon: Daemon, enf: Path) -> None:
    runner = BenchRunner(BenchConfig(enf, devices="npu0pe0", duration=1e6))
    running = asyncio.create_task(runner.run())
    await until(lambda: runner.queries >= 3)
    runner.stop()
    assert (await running).queries >= 3
    assert runner.stage is Stage.DONE


async def test_the_time_is_a_minimum_too(daemon: Daemon, enf: Path) -> None:
    config = BenchConfig(enf, devices="npu0pe0", duration=0.2)
    report = await BenchRunner(config).run()
    assert report.run_time >= 200_000_000
    assert report.queries > 1


async def test_an_unknown_device_is_an_error_and_holds_nothing(daemon: Daemon, enf: Path) -> None:
    with pytest.raises(FuriosaRuntimeError, match="npu:7:0 not found"):
        await BenchRunner(BenchConfig(enf, devices="npu7pe0")).run()
    assert "0 (available), 1 (available)" in daemon.furiosactl("list").stdout
