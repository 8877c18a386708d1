"""Waiting for a broker that is away: its end, and who may end it, in both styles."""

import asyncio
import os
import signal
import threading
from typing import Any

import anyio
import numpy as np
import pytest

from furiosa.common.errors import (
    UnknownLease,
)
from furiosa.runtime import FuriosaRuntimeError, Runtime, create_runner, sync
from furiosa.runtime._core.errors import SessionClosed, SessionTerminated
from support.fake_connection import FakeNpu
from support.runners import ENF, GONE, ones, waits, works
from support.twins import Twin

UNKNOWN = UnknownLease("lease-1")


@pytest.mark.usefixtures("impatient")
async def test_a_broker_that_stays_away_ends_every_model(npu: FakeNpu, twin: Twin) -> None:
    runtime = twin.runtime()
    runners = [await twin.runner_of(runtime, ENF) for _ in range(2)]
    npu.die()
    for runner in (*runners, *runners):
        with pytest.raises(SessionTerminated, match=f"the session was terminated: {GONE}"):
            await twin.run(runner, ones())
    with pytest.raises(SessionTerminated, match=GONE):
        await twin.runner_of(runtime, ENF)
    assert npu.reopened == 1
    assert await twin.close(runtime)


async def test_close_ends_the_wait(npu: FakeNpu, twin: Twin) -> None:
    for of_runtime in (False, True):
        runtime = twin.runtime()
        runner = await twin.runner_of(runtime, ENF)
        other = await twin.runner_of(runtime, ENF)
        npu.die()
        closed = runtime if of_runtime else runner
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(refused, twin, runner)
            await waits(runner._loaded)
            assert await twin.close(closed) is True
        npu.come_back()
        if not of_runtime:
            assert await works(twin, other)
        await twin.close(runtime)


async def refused(twin: Twin, runner: Any) -> None:
    with pytest.raises(SessionClosed):
        await twin.run(runner, ones())


async def test_close_ends_the_wait_for_the_devices(npu: FakeNpu, twin: Twin) -> None:
    for of_runtime in (False, True):
        runtime = twin.runtime(wait=60)
        runner = await twin.runner_of(runtime, ENF)
        npu.restart()
        npu.resume_error = UNKNOWN
        npu.busy = True
        count = len(npu.waits)
        async with anyio.create_task_group() as group:
            group.start_soon(refused, twin, runner)
            while len(npu.waits) == count:
                await anyio.lowlevel.checkpoint()
            assert await twin.close(runtime if of_runtime else runner) is True
        npu.busy = False
        await twin.close(runtime)


async def test_who_is_cancelled_leaves_the_work_to_the_next(npu: FakeNpu) -> None:
    async with create_runner(ENF) as runner:
        npu.die()
        first = asyncio.ensure_future(runner.run(ones()))
        await waits(runner._loaded)
        second = asyncio.ensure_future(runner.run(ones()))
        while len(runner._loaded._holding._claim._naps) < 2:
            await anyio.lowlevel.checkpoint()
        first.cancel()
        await asyncio.wait([first])
        assert first.cancelled()
        npu.come_back()
        assert np.array_equal((await second)[0], ones(2))
        assert npu.resumed == ["lease-1"]


async def test_cancelled_at_any_await_it_leaves_nothing_and_can_be_tried_again(
    npu: FakeNpu,
) -> None:
    steps = 0
    while True:
        runtime = Runtime()
        runner = await runtime.create_runner(ENF)
        npu.restart()
        task = asyncio.ensure_future(runner.run(ones()))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            break
        assert np.array_equal((await runner.run(ones(3)))[0], ones(6))
        await runtime.close()
        steps += 1
    await runtime.close()
    assert steps > 5
    assert npu.hung_up == len(npu.acquired) + npu.reopened


def test_a_blocking_call_waits_and_close_by_another_thread_ends_it(npu: FakeNpu) -> None:
    runner = sync.create_runner(ENF)
    npu.die()
    raised: list[Exception] = []

    def run() -> None:
        try:
            runner.run(ones())
        except SessionClosed as error:
            raised.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(runner._loaded._holding._claim._naps) < 4:
        threading.Event().wait(0)
    assert runner.close() is True
    for thread in threads:
        thread.join()
    assert len(raised) == 4


def test_ctrl_c_ends_the_wait(npu: FakeNpu) -> None:
    with sync.create_runner(ENF) as runner:
        npu.die()

        def interrupt() -> None:
            while not runner._loaded._holding._claim._naps:
                threading.Event().wait(0)
            signal.raise_signal(signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            runner.run(ones())
        thread.join()
        npu.come_back()
        assert np.array_equal(runner.run(ones())[0], ones(2))


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("heard", [False, True], ids=["by the child", "by the parent"])
def test_a_forked_child_leaves_the_lease_to_its_parent(npu: FakeNpu, heard: bool) -> None:
    with sync.create_runner(ENF) as runner:
        npu.restart()
        if heard:
            runner._loaded._holding.listen()
        hung_up = npu.hung_up
        child = os.fork()
        if child == 0:
            try:
                runner.run(ones())
            except FuriosaRuntimeError:
                os._exit(7 if (npu.reopened, npu.hung_up) == (0, hung_up) else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert np.array_equal(runner.run(ones())[0], ones(2))


def test_many_threads_over_many_restarts(npu: FakeNpu) -> None:
    over = threading.Event()
    wrong: list[object] = []
    done = [0] * 6

    def run(runner: sync.Runner, number: int) -> None:
        while not over.is_set():
            try:
                (output,) = runner.run(ones(number))
                if not np.array_equal(output, ones(2 * number)):
                    wrong.append(output)
                done[number] += 1
            except FuriosaRuntimeError as error:
                if type(error) is not FuriosaRuntimeError:
                    wrong.append(error)

    with sync.Runtime() as runtime:
        runners = [runtime.create_runner(ENF) for _ in range(2)]
        threads = [threading.Thread(target=run, args=(runners[n % 2], n)) for n in range(6)]
        for thread in threads:
            thread.start()
        for _ in range(30):
            before = list(done)
            while any(now == then for now, then in zip(done, before, strict=True)):
                threading.Event().wait(0.001)
            npu.restart()
        over.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert 0 < len(npu.resumed) <= 30
