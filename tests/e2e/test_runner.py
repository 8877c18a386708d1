"""The public runtime on a real broker: answers, and what happens when parts of it are killed."""

import asyncio
import gc
import os
import re
import select
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from furiosa import runtime
from furiosa.client.sync import Connection
from furiosa.common.errors import InvalidProgram, UnsupportedProgram, WorkerDied
from furiosa.common.selector import DeviceSpec
from furiosa.runtime import FuriosaRuntimeError, create_runner, sync
from support import digits
from support.clients import RUN, Client
from support.daemon import Daemon

IMAGE = digits.held_out_images()[0]


@pytest.fixture(scope="module")
def enf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("programs") / "digits.enf"
    path.write_bytes(digits.program())
    return path


def kill_and_wait(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    select.select([pidfd], [], [], 60)
    os.close(pidfd)


async def test_async_and_sync_give_the_same_answer(daemon: Daemon, enf: Path) -> None:
    async with runtime.create_runner(enf, device="npu:0:0") as runner:
        (first,) = await runner.run(IMAGE)
    runner = await runtime.create_runner(enf, device="npu:0:0")
    (second,) = await runner.run([IMAGE])
    assert await runner.close()
    with sync.create_runner(enf.read_bytes(), device="npu:0:0") as blocking:
        (third,) = blocking.run([IMAGE])
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, third)
    assert first.argmax() == digits.held_out_labels()[0]


@pytest.mark.parametrize("device", ["npu:0:0", "warboy(2)*1", "npu:0", "warboy(1)*2"])
def test_an_onnx_model_is_compiled_for_the_device(daemon: Daemon, device: str) -> None:
    with sync.create_runner(digits.int8_model(), device=device) as runner:
        (logits,) = runner.run([IMAGE])
    assert logits.argmax() == digits.held_out_labels()[0]


@pytest.mark.parametrize(
    ("inputs", "error"),
    [
        ([IMAGE.astype(np.float64)], TypeError),
        ([IMAGE[0]], ValueError),
        ([IMAGE, IMAGE], ValueError),
        ([], ValueError),
    ],
)
def test_wrong_inputs_are_refused_and_the_runner_goes_on(
    daemon: Daemon, enf: Path, inputs: list[np.ndarray], error: type[Exception]
) -> None:
    with sync.create_runner(enf, device="npu:0:0") as runner:
        with pytest.raises(error):
            runner.run(inputs)
        with pytest.raises(ValueError, match="nonsense"):
            runner.run_with(["logits"], {"nonsense": IMAGE})
        assert runner.run([IMAGE])[0].shape == (1, 10)


def test_a_busy_device_names_its_holder(daemon: Daemon, enf: Path) -> None:
    script = RUN.format(enf=str(enf), spec="npu:0:0")
    with Client(script, daemon.environ) as holder:
        assert holder.line() == "running", daemon.log
        with pytest.raises(FuriosaRuntimeError, match=rf"held by pid {holder.pid} \("):
            sync.create_runner(enf, device="npu:0:0")


def test_an_owner_killed_in_the_middle_of_a_run_leaves_the_core_to_the_next(
    daemon: Daemon, enf: Path
) -> None:
    with Client(RUN.format(enf=str(enf), spec="npu:0:0"), daemon.environ) as holder:
        assert holder.line() == "running", daemon.log
        (worker,) = daemon.workers()
        holder.kill()
        with Connection.open(client="test") as connection:
            connection.acquire(DeviceSpec.parse("npu:0:0"), wait_limit=60)
            assert worker not in daemon.workers()


def failure_of_a_run_whose_worker_dies(
    runner: sync.Runner, daemon: Daemon
) -> FuriosaRuntimeError | None:
    """None when the run had not reached the worker yet; then it is answered by the next one."""
    (worker,) = daemon.workers()
    os.kill(worker, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(runner.run, [IMAGE])
        kill_and_wait(worker)
        error = run.exception(60)
        assert error is None or isinstance(error, FuriosaRuntimeError)
        return error


def test_a_killed_worker_is_named_and_the_runner_goes_on(daemon: Daemon, enf: Path) -> None:
    with sync.create_runner(enf, device="npu:0:0") as runner:
        (before,) = runner.run([IMAGE])
        gc.collect()  # what earlier tests left
        descriptors = len(os.listdir("/proc/self/fd"))
        named = 0
        for _ in range(10):
            if error := failure_of_a_run_whose_worker_dies(runner, daemon):
                assert re.search(r"npu0pe0 .*signal 9", str(error))
                assert isinstance(error.__cause__, WorkerDied)
                named += 1
            error = None  # its traceback would hold the last queue's memory
            (after,) = runner.run([IMAGE])
            np.testing.assert_array_equal(before, after)
            assert len(daemon.workers()) == 1
        assert named
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) == descriptors


async def test_a_killed_worker_is_named_by_every_call_in_flight_of_an_event_loop(
    daemon: Daemon, enf: Path
) -> None:
    async with create_runner(enf, device="npu:0:0", worker_num=4) as runner:
        (before,) = await runner.run([IMAGE])
        (worker,) = daemon.workers()
        os.kill(worker, signal.SIGSTOP)
        runs = [asyncio.create_task(runner.run([IMAGE])) for _ in range(6)]  # two wait for a slot
        await asyncio.sleep(0)
        kill_and_wait(worker)
        outcomes = await asyncio.gather(*runs, return_exceptions=True)
        for outcome in outcomes:
            assert isinstance(outcome, FuriosaRuntimeError)
            assert re.search(r"npu0pe0 .*signal 9", str(outcome))
        (after,) = await runner.run([IMAGE])
        np.testing.assert_array_equal(before, after)


def test_a_killed_broker_is_named_and_the_next_runner_works(daemon: Daemon, enf: Path) -> None:
    with sync.create_runner(enf, device="npu:0:0", on_broker_restart="raise") as runner:
        runner.run([IMAGE])
        kill_and_wait(daemon.pid)
        with pytest.raises(FuriosaRuntimeError, match="no broker at"):  # noqa: PT012  # a run in flight may still be answered
            for _ in range(1_000_000):
                runner.run([IMAGE])
    daemon.wait()
    daemon.start()
    with sync.create_runner(enf, device="npu:0:0") as runner:
        assert runner.run([IMAGE])[0].argmax() == digits.held_out_labels()[0]


def damaged(enf: bytes) -> list[bytes]:
    flipped = bytearray(enf)
    flipped[len(flipped) // 2] ^= 1
    return [enf[:100], enf[:-1], bytes(flipped), enf[:16] + os.urandom(len(enf) - 16)]


def test_a_damaged_program_is_refused_by_the_worker_and_harms_nobody(daemon: Daemon) -> None:
    enf = digits.program()
    with Connection.open(client="test") as connection:
        lease = connection.acquire(DeviceSpec.parse("npu:0:0"))
        for data in [*damaged(enf), b"", b"x"]:
            with pytest.raises(InvalidProgram):
                connection.load_program(lease.id, data)
        with pytest.raises(UnsupportedProgram, match="warboy-2pe"):
            connection.load_program(lease.id, digits.program("warboy-2pe"))
        assert connection.load_program(lease.id, enf).target == "warboy"
        assert len(daemon.workers()) == 1
        connection.release(lease.id)
        assert daemon.workers() == []


def test_what_is_no_model_is_refused_before_a_device_is_leased(
    daemon: Daemon, tmp_path: Path
) -> None:
    missing = tmp_path / "missing.onnx"
    with pytest.raises(FuriosaRuntimeError, match=r"missing\.onnx"):
        sync.create_runner(missing, device="npu:0:0")
    with pytest.raises(FuriosaRuntimeError):
        sync.create_runner(b"not a model", device="npu:0:0")
    assert "lease.granted" not in daemon.log
