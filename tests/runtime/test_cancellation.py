"""An asynchronous call may be cancelled at each of its awaits and leaves nothing behind."""

import asyncio
from typing import Any

import anyio
import numpy as np
import pytest

from furiosa.common.model_limits import ENF_MAGIC
from furiosa.runtime import Runner, Runtime, create_runner
from support.fake_connection import FakeNpu, X

ENF = ENF_MAGIC + b"program"


def ones(value: float = 1) -> Any:
    return np.full(X.shape, value, np.float32)


async def start(runner: Runner, value: float, stage: str) -> "asyncio.Task[list[Any]]":
    """A run that has got as far as `stage`."""
    runs = runner._loaded._deployments[0].runs
    before = set(runs._owned)
    task = asyncio.create_task(runner.run(ones(value)))
    while not any(run.stage.value == stage for run in runs._owned - before):
        await anyio.lowlevel.checkpoint()
    return task


async def cancel(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_slot_of_a_cancelled_run_is_reused_only_after_its_completion(
    npu: FakeNpu,
) -> None:
    async with create_runner(ENF, worker_num=1) as runner:
        npu.hold()
        cancelled = await start(runner, 1, "submitted")
        await cancel(cancelled)
        follower = await start(runner, 2, "waiting")
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        assert len(npu.seen) <= 1, "the device may still write to the only slot"
        npu.go.set()
        (output,) = await follower
        assert np.array_equal(output, ones(4))
        runner._loaded._deployments[0].runs.check()


async def test_cancelling_the_leader_does_not_strand_the_others(npu: FakeNpu) -> None:
    async with create_runner(ENF, worker_num=4) as runner:
        npu.hold()
        tasks = [await start(runner, value, "submitted") for value in range(4)]
        await cancel(tasks[0])
        npu.go.set()
        for value, task in enumerate(tasks[1:], start=1):
            (output,) = await task
            assert np.array_equal(output, ones(2 * value))


async def test_cancelling_who_waits_for_a_slot(npu: FakeNpu) -> None:
    async with create_runner(ENF, worker_num=1) as runner:
        npu.hold()
        first = await start(runner, 1, "submitted")
        second = await start(runner, 2, "waiting")
        third = await start(runner, 3, "waiting")
        await cancel(second)
        npu.go.set()
        assert np.array_equal((await first)[0], ones(2))
        assert np.array_equal((await third)[0], ones(6))


async def test_all_are_cancelled_and_the_runner_goes_on(npu: FakeNpu) -> None:
    async with create_runner(ENF, worker_num=2) as runner:
        for _ in range(5):
            npu.hold()
            tasks = [asyncio.create_task(runner.run(ones())) for _ in range(5)]
            await anyio.to_thread.run_sync(npu.wait_until_taken, 1)
            for task in tasks:
                await cancel(task)
            npu.go.set()
            (output,) = await runner.run(ones(3))
            assert np.array_equal(output, ones(6))
        runner._loaded._deployments[0].runs.check()


async def test_a_cancelled_scope_still_closes_what_it_opened(npu: FakeNpu) -> None:
    with anyio.CancelScope() as scope:
        async with Runtime() as runtime, runtime.create_runner(ENF) as runner:
            await runner.run(ones())
            scope.cancel()
    assert npu.unloaded == [1]
    assert npu.released == ["lease-1"]
    assert npu.hung_up == 1


async def test_a_cancelled_close_closes_nevertheless(npu: FakeNpu) -> None:
    runner = await create_runner(ENF)
    npu.hold()
    run = await start(runner, 1, "submitted")
    closing = asyncio.create_task(runner.close())
    while runner._loaded._session.phase.value != "closed":
        await anyio.lowlevel.checkpoint()
    await cancel(closing)
    assert npu.released == ["lease-1"]
    npu.go.set()
    with pytest.raises(Exception, match="the session was closed"):
        await run


async def test_a_runner_awaited_twice_is_an_error(npu: FakeNpu) -> None:
    opening = create_runner(ENF)
    runner = await opening
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        await opening
    await runner.close()
