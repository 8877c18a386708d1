"""Queues on a real broker: right answers, and what they do when parts of it go."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import anyio
import numpy as np
import pytest

from furiosa import runtime
from furiosa.client.sync import Connection
from furiosa.common.errors import WorkerDied
from furiosa.common.selector import DeviceSpec
from furiosa.runtime import FuriosaRuntimeError, sync
from furiosa.runtime._core.errors import DeviceBusy, SessionTerminated
from support import digits
from support.clients import RUN, Client
from support.daemon import Daemon
from support.twins import TWINS, Twin, twin_of

IMAGES = digits.held_out_images()[:200]


@pytest.fixture(scope="module")
def enf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("programs") / "digits.enf"
    path.write_bytes(digits.program())
    return path


def expected(enf: Path) -> list[np.ndarray]:
    with sync.create_runner(enf, device="npu:0:0") as runner:
        return [runner.run([image])[0] for image in IMAGES]


async def test_a_batch_gives_what_single_runs_give(daemon: Daemon, enf: Path) -> None:
    single = expected(enf)
    got: dict[int, np.ndarray] = {}
    async with runtime.create_queue(enf, device="warboy(1)*2", worker_num=4) as ends:
        submitter, receiver = ends

        async def feed() -> None:
            for number, image in enumerate(IMAGES):
                await submitter.submit([image], number)
            await submitter.close()

        async with asyncio.TaskGroup() as group:
            group.create_task(feed())
            async for number, (logits,) in receiver:
                got[number] = logits
    for number, logits in enumerate(single):
        np.testing.assert_array_equal(got[number], logits)


def test_a_batch_from_a_thread(
    daemon: Daemon, enf: Path, in_thread: Callable[[Callable[[], object]], Thread]
) -> None:
    single = expected(enf)
    with sync.create_queue(enf, device="warboy(1)*2", input_queue_size=3, output_queue_size=2) as (
        submitter,
        receiver,
    ):

        def feed() -> None:
            with submitter:
                for number, image in enumerate(IMAGES):
                    submitter.submit([image], number)

        in_thread(feed)
        got = dict(receiver)
    assert len(got) == len(IMAGES)
    for number, logits in enumerate(single):
        np.testing.assert_array_equal(got[number][0], logits)


def kill_and_wait(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    select.select([pidfd], [], [], 60)
    os.close(pidfd)


def test_a_killed_worker_fails_what_ran_on_it_and_the_rest_is_done(
    daemon: Daemon, enf: Path
) -> None:
    with sync.create_queue(enf, device="npu:0:0", worker_num=2) as (submitter, receiver):
        submitter.submit([IMAGES[0]], "first")
        assert receiver.recv(60)[0] == "first"
        (worker,) = daemon.workers()
        os.kill(worker, signal.SIGSTOP)
        for number in range(6):
            submitter.submit([IMAGES[number]], number)
        while submitter._queue._line._running < 2:
            os.sched_yield()
        kill_and_wait(worker)
        done: list[object] = []
        lost: list[object] = []
        causes: list[object] = []
        for _ in range(6):
            try:
                done.append(receiver.recv(60)[0])
            except FuriosaRuntimeError as error:
                causes.append(error.__cause__)
                lost.append(error.context)
        assert sorted(map(str, done + lost)) == ["0", "1", "2", "3", "4", "5"]
        assert set(lost) <= {0, 1}
        assert all(isinstance(cause, WorkerDied) for cause in causes)


@pytest.fixture(params=TWINS)
def twin(request: pytest.FixtureRequest) -> Iterator[Twin]:
    with twin_of(request.param) as made:
        yield made


async def test_a_killed_broker_ends_a_recv_that_waits_for_nothing_in_flight(
    daemon: Daemon, enf: Path, twin: Twin
) -> None:
    submitter, receiver = await twin.create_queue(enf, device="npu:0:0", on_broker_restart="raise")
    waiting = asyncio.create_task(twin.recv(receiver))
    while not submitter._queue._line.receivers:
        await anyio.lowlevel.checkpoint()
    await anyio.to_thread.run_sync(kill_and_wait, daemon.pid)
    with pytest.raises(SessionTerminated):
        await waiting
    assert await twin.close(receiver) is True
    await anyio.to_thread.run_sync(daemon.wait)
    await anyio.to_thread.run_sync(daemon.start)
    receiver = (await twin.create_queue(enf, device="npu:0:0")).receiver
    assert await twin.close(receiver) is True


def test_a_revoked_lease_ends_a_recv_that_waits_for_nothing_in_flight(
    daemon: Daemon, enf: Path, in_thread: Callable[[Callable[[], object]], Thread]
) -> None:
    submitter, receiver = sync.create_queue(enf, device="npu:0:0")
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            receiver.recv()
        except SessionTerminated as error:
            raised.append(error)

    thread = in_thread(wait)
    while not submitter._queue._line.receivers:
        os.sched_yield()
    with Connection.open(client="test") as connection:
        (lease,) = connection.leases()
        connection.revoke(lease.id, 0.0, "maintenance")
    thread.join()
    (error,) = raised
    assert "maintenance" in str(error)
    receiver.close()


def test_who_waits_for_a_device_gets_it_when_its_holder_has_gone(
    daemon: Daemon, enf: Path, in_thread: Callable[[Callable[[], object]], Thread]
) -> None:
    with Client(RUN.format(enf=str(enf), spec="npu:0:0"), daemon.environ) as holder:
        assert holder.line() == "running", daemon.log
        with pytest.raises(DeviceBusy, match=f"held by pid {holder.pid}"):
            sync.create_runner(enf, device="npu:0:0", wait=0.01)
        made: list[sync.Runtime] = []

        def wait() -> None:
            with sync.Runtime("npu:0:0", wait=60) as waiting:
                made.append(waiting)
                assert waiting.devices == ("npu0pe0",)
                with waiting.create_runner(enf) as runner:
                    runner.run([IMAGES[0]])
                    assert runner.stats().completed == 1
                    assert runner.stats().device_ns > 0

        thread = in_thread(wait)
        with Connection.open(client="test") as connection:
            while not connection.overview().waiters:
                os.sched_yield()
        assert made == []
        holder.kill()
        thread.join()
    assert len(made) == 1


async def test_a_wait_that_is_given_up_leaves_no_waiter(daemon: Daemon, enf: Path) -> None:
    with Connection.open(client="test") as connection:
        lease = connection.acquire(DeviceSpec.parse("npu:0:0"))
        for give_up in ("cancel", "close"):
            waiting = runtime.Runtime("npu:0:0", wait=60)
            task = asyncio.create_task(waiting.__aenter__())
            while not await anyio.to_thread.run_sync(lambda: connection.overview().waiters):
                await anyio.lowlevel.checkpoint()
            if give_up == "cancel":
                task.cancel()
            else:
                await waiting.close()
            await asyncio.wait([task])
            assert task.cancelled() or task.exception() is not None
            while await anyio.to_thread.run_sync(lambda: connection.overview().waiters):
                await anyio.lowlevel.checkpoint()
        assert [held.id for held in connection.leases()] == [lease.id]


OPEN_AT_EXIT = """
import numpy
from furiosa.runtime.sync import create_queue
submitter, receiver = create_queue({enf!r}, device="npu:0:0")
inputs = [numpy.zeros(t.shape, t.numpy_dtype) for t in submitter.model.inputs()]
for number in range({count}):
    submitter.submit(inputs, number)
receiver.recv()
"""


@pytest.mark.parametrize("count", [1, 40])
def test_a_program_that_ends_with_a_queue_open_ends(daemon: Daemon, enf: Path, count: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OPEN_AT_EXIT.format(enf=str(enf), count=count)],
        env={**os.environ, **daemon.environ},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
