"""A broker that goes and comes back under programs that run: they go on, and with the same devices."""

import asyncio
import os
import select
import signal
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import anyio.to_thread
import numpy as np
import pytest

from furiosa.client.sync import Connection
from furiosa.common.errors import BrokerUnavailable, DeviceBusy, LeaseEnded
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import LeaseState
from furiosa.runtime import FuriosaRuntimeError, sync
from furiosa.runtime._core.errors import SessionTerminated
from furiosa.runtime._sync import claim
from support import digits
from support.clients import HOLD, Client
from support.daemon import Daemon
from support.replacing import replaced
from support.twins import AsyncTwin, SyncTwin, Twin

IMAGES = digits.held_out_images()[:40]
IMAGE = IMAGES[0]

InThread = Callable[[Callable[[], object]], Thread]


@pytest.fixture(params=[AsyncTwin(), SyncTwin()], ids=["async", "sync"])
def twin(request: pytest.FixtureRequest) -> Twin:
    twin: Twin = request.param
    return twin


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


def kill(daemon: Daemon) -> None:
    kill_and_wait(daemon.pid)
    daemon.wait()


def restart(daemon: Daemon) -> None:
    kill(daemon)
    daemon.start()


def stop_and_start(daemon: Daemon) -> None:
    daemon.signal(signal.SIGTERM)
    daemon.wait()
    daemon.start()


async def test_an_idle_runner_notices_nothing_and_keeps_its_lease(
    daemon: Daemon, enf: Path, twin: Twin
) -> None:
    runtime = twin.runtime("npu:0:0-1")
    model = digits.program("warboy-2pe")
    runner = await twin.runner_of(runtime, model)
    (before,) = await twin.run(runner, IMAGE)
    lease = runtime.lease
    await anyio.to_thread.run_sync(restart, daemon)
    assert runtime.lease.state is LeaseState.DETACHED
    assert runtime.devices == ("npu0pe0-1",)
    np.testing.assert_array_equal((await twin.run(runner, IMAGE))[0], before)
    assert runtime.lease == lease
    second = await twin.runner_of(runtime, model)
    np.testing.assert_array_equal((await twin.run(second, IMAGE))[0], before)
    await twin.close(runtime)
    with Connection.open(client="test") as connection:
        assert connection.leases() == ()


async def test_calls_wait_for_a_broker_that_is_away(daemon: Daemon, enf: Path, twin: Twin) -> None:
    runner = await twin.create_runner(enf, device="warboy(1)*2")
    (expected,) = await twin.run(runner, IMAGE)
    await anyio.to_thread.run_sync(kill, daemon)
    calls = [asyncio.create_task(twin.run(runner, IMAGE)) for _ in range(4)]
    while not runner._loaded._holding._taken:
        await anyio.lowlevel.checkpoint()
    await anyio.to_thread.run_sync(daemon.start)
    for (output,) in await asyncio.gather(*calls):
        np.testing.assert_array_equal(output, expected)
    assert runner.stats().failed == 0
    await twin.close(runner)


async def test_what_is_in_flight_raises_and_is_not_run_again(
    daemon: Daemon, enf: Path, twin: Twin
) -> None:
    runner = await twin.create_runner(enf, device="npu:0:0")
    (expected,) = await twin.run(runner, IMAGE)
    (worker,) = daemon.workers()
    os.kill(worker, signal.SIGSTOP)
    calls = [asyncio.create_task(twin.run(runner, IMAGE)) for _ in range(3)]
    runs = runner._loaded._deployments[0].runs
    while len(runs._owned) < 3 or not runs._submitted:
        await anyio.lowlevel.checkpoint()
    await anyio.to_thread.run_sync(restart, daemon)
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        assert type(outcome) is FuriosaRuntimeError
        assert "it is not known whether this inference was run" in str(outcome)
        assert isinstance(outcome.__cause__, BrokerUnavailable)
    np.testing.assert_array_equal((await twin.run(runner, IMAGE))[0], expected)
    assert (runner.stats().completed, runner.stats().failed) == (2, 3)
    await twin.close(runner)


async def test_a_queue_goes_on_with_what_is_queued(daemon: Daemon, enf: Path, twin: Twin) -> None:
    submitter, receiver = await twin.create_queue(enf, device="npu:0:0", worker_num=2)
    await twin.submit(submitter, IMAGE, "first")
    (expected,) = (await twin.recv(receiver))[1]
    (worker,) = daemon.workers()
    os.kill(worker, signal.SIGSTOP)
    for number in range(10):
        await twin.submit(submitter, IMAGE, number)
    while submitter._queue._line._running < 2:
        await anyio.lowlevel.checkpoint()
    await anyio.to_thread.run_sync(restart, daemon)
    done: dict[Any, Any] = {}
    lost: list[Any] = []
    for _ in range(10):
        try:
            context, (output,) = await twin.recv(receiver)
            done[context] = output
        except FuriosaRuntimeError as error:
            lost.append(error.context)
    assert set(lost) <= {0, 1}
    assert sorted([*done, *lost]) == list(range(10))
    for output in done.values():
        np.testing.assert_array_equal(output, expected)
    await twin.close(receiver)


async def test_an_idle_queue_resumes_by_itself(daemon: Daemon, enf: Path, twin: Twin) -> None:
    submitter, receiver = await twin.create_queue(enf, device="npu:0:0")
    waiting = asyncio.create_task(twin.recv(receiver))
    while not submitter._queue._line.receivers:
        await anyio.lowlevel.checkpoint()
    await anyio.to_thread.run_sync(restart, daemon)
    await anyio.to_thread.run_sync(daemon.logged, "lease.resumed")
    await twin.submit(submitter, IMAGE, "after")
    assert (await waiting)[0] == "after"
    assert await twin.close(receiver) is True


@pytest.mark.parametrize("happens", [restart, stop_and_start, replaced])
def test_two_runtimes_of_one_process_each_keep_theirs(
    daemon: Daemon, enf: Path, happens: Callable[[Daemon], None]
) -> None:
    with (
        sync.Runtime("npu:0:0") as first,
        sync.Runtime("npu:0:1") as second,
        first.create_runner(enf) as one,
        second.create_runner(enf) as two,
    ):
        (expected,) = one.run(IMAGE)
        happens(daemon)
        np.testing.assert_array_equal(two.run(IMAGE)[0], expected)
        np.testing.assert_array_equal(one.run(IMAGE)[0], expected)
        assert (first.devices, second.devices) == (("npu0pe0",), ("npu0pe1",))
        assert (one.stats().failed, two.stats().failed) == (0, 0)


def test_a_lease_that_was_not_kept_is_replaced_by_one_of_the_same_devices(
    daemon: Daemon, enf: Path
) -> None:
    daemon.set("--reconnect-grace", "0")
    with sync.Runtime("warboy(1)*1") as runtime, runtime.create_runner(enf) as runner:
        lease = runtime.lease
        assert lease is not None
        restart(daemon)
        daemon.logged("lease.ended")
        runner.run(IMAGE)
        assert runtime.lease is not None
        assert runtime.lease.id != lease.id
        assert runtime.lease.device_files == lease.device_files


def test_a_device_that_somebody_else_has_by_then_ends_the_session_by_name(
    daemon: Daemon, enf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "AGAIN_SECONDS", 0.0)
    daemon.set("--reconnect-grace", "0")
    with sync.create_runner(enf, device="npu:0:0") as runner:
        restart(daemon)
        daemon.logged("lease.ended")
        with Client(HOLD.format(spec="npu:0:0", megabytes=1), daemon.environ) as other:
            assert other.line()
            for _ in range(2):
                with pytest.raises(SessionTerminated, match=f"held by pid {other.pid}") as caught:
                    runner.run(IMAGE)
                assert isinstance(caught.value.__cause__, DeviceBusy)


def test_a_lease_that_was_revoked_meanwhile_is_not_resumed(daemon: Daemon, enf: Path) -> None:
    with sync.Runtime("npu:0:0") as runtime, runtime.create_runner(enf) as runner:
        restart(daemon)
        with Connection.open(client="admin") as admin:
            (lease,) = admin.leases()
            admin.revoke(lease.id, 0.0, "maintenance")
        with pytest.raises(SessionTerminated, match="maintenance") as caught:
            runner.run(IMAGE)
        assert isinstance(caught.value.__cause__, LeaseEnded)
        assert runtime.lease is not None
        assert runtime.lease.state is LeaseState.ENDED


def test_a_lease_that_is_wanted_back_is_not_resumed(daemon: Daemon, enf: Path) -> None:
    with sync.Runtime("npu:0:0") as runtime, runtime.create_runner(enf) as runner:
        with Connection.open(client="admin") as admin:
            (lease,) = admin.leases()
            admin.revoke(lease.id, 3600.0, "maintenance")
        runner.run(IMAGE)
        assert runtime.lease is not None
        assert runtime.lease.state is LeaseState.RECALLED
        assert "maintenance" in runtime.lease.cause
        restart(daemon)
        with pytest.raises(SessionTerminated, match="no broker at"):
            runner.run(IMAGE)


def test_who_asks_for_it_is_told_of_the_end(daemon: Daemon, enf: Path) -> None:
    with sync.create_runner(enf, device="npu:0:0", on_broker_restart="raise") as runner:
        restart(daemon)
        with pytest.raises(SessionTerminated, match="no broker at"):
            runner.run(IMAGE)
        with Connection.open(client="test") as connection:
            (lease,) = connection.leases()
            assert lease.state is LeaseState.DETACHED


FORKED = """
import os
import numpy
from furiosa.runtime import FuriosaRuntimeError
from furiosa.runtime.sync import create_runner
runner = create_runner({enf!r}, device="npu:0:0")
inputs = [numpy.zeros(t.shape, t.numpy_dtype) for t in runner.model.inputs()]
runner.run(inputs)
print("running", flush=True)
input()
child = os.fork()
if child == 0:
    try:
        runner.run(inputs)
    except FuriosaRuntimeError as error:
        print(type(error).__name__, flush=True)
    os._exit(0)
os.waitpid(child, 0)
runner.run(inputs)
print("resumed", flush=True)
"""


def test_a_forked_child_does_not_resume_the_lease_of_its_parent(daemon: Daemon, enf: Path) -> None:
    with Client(FORKED.format(enf=str(enf)), daemon.environ) as parent:
        assert parent.line() == "running"
        restart(daemon)
        assert parent.process.stdin is not None
        parent.process.stdin.write("\n")
        parent.process.stdin.flush()
        assert parent.line() == "FuriosaRuntimeError"
        assert parent.line() == "resumed"
    assert daemon.log.count("lease.granted") == 1


EMBEDDED = """
import os, signal
import numpy
from furiosa.client.sync import Connection
from furiosa.runtime.sync import Runtime
with Runtime("npu:0:0") as runtime, runtime.create_runner({enf!r}) as runner:
    inputs = [numpy.zeros(t.shape, t.numpy_dtype) for t in runner.model.inputs()]
    expected = runner.run(inputs)
    lease = runtime.lease.id
    print("running", flush=True)
    input()
    same = all(map(numpy.array_equal, runner.run(inputs), expected))
    print(same and runtime.lease.id == lease, flush=True)
"""


def test_a_users_own_broker_that_died_is_started_again(
    enf: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("h")
    home.chmod(0o700)
    environ = {**os.environ, "HOME": str(home), "XDG_RUNTIME_DIR": str(home)}
    environ.pop("FURIOSA_BROKER", None)
    log = home / "furiosa" / "broker.log"

    def brokers() -> list[int]:
        lines = [line for line in log.read_text().splitlines() if "broker.ready" in line]
        return [int(line.rpartition("pid=")[2]) for line in lines]

    with Client(EMBEDDED.format(enf=str(enf)), environ) as user:
        assert user.line() == "running"
        (first,) = brokers()
        kill_and_wait(first)
        assert user.process.stdin is not None
        user.process.stdin.write("\n")
        user.process.stdin.flush()
        assert user.line() == "True"
        _, second = brokers()
    kill_and_wait(second)


def test_the_devices_are_held_for_nobody_else_meanwhile(daemon: Daemon, enf: Path) -> None:
    with sync.create_runner(enf, device="npu:0:0") as runner:
        restart(daemon)
        with Client(HOLD.format(spec="npu:0:0", megabytes=1), daemon.environ) as other:
            assert other.line() == "", "it was refused"
        runner.run(IMAGE)
        with Connection.open(client="test") as connection, pytest.raises(DeviceBusy):
            connection.acquire(DeviceSpec.parse("npu:0:0"))
