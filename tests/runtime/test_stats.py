"""What a runner counts."""

import asyncio
import dataclasses

import anyio
import pytest

from furiosa.queuepair import Completion, CompletionStatus
from furiosa.runtime import FuriosaRuntimeError, Stats, create_runner
from furiosa.runtime._core.stats import Tally
from support.fake_connection import FakeNpu
from support.runners import ENF, failures, ones
from support.twins import Twin


async def test_runs_are_counted_by_how_they_ended(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF)
    assert runner.stats() == Stats()
    for _ in range(3):
        await twin.run(runner, ones())
    npu.status = CompletionStatus.EXECUTION_FAILED
    with pytest.raises(FuriosaRuntimeError):
        await twin.run(runner, ones())
    with pytest.raises(ValueError, match="2 tensors are given"):
        await twin.run(runner, [ones(), ones()])
    assert runner.stats() == Stats(completed=3, failed=1)
    await twin.close(runner)
    assert runner.stats() == Stats(completed=3, failed=1)


async def test_runs_in_flight_are_counted_until_they_are_lost(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF, worker_num=2)
    seen: list[Stats] = []

    def happens() -> None:
        seen.append(runner.stats())
        npu.kill_worker()

    assert len(await failures(twin, npu, runner, happens)) == 3
    assert seen == [Stats(in_flight=3)]
    await twin.run(runner, ones())  # on the next worker
    assert runner.stats() == Stats(completed=1, failed=3)
    await twin.close(runner)


async def test_a_cancelled_run_is_in_flight_until_the_device_has_done_it(npu: FakeNpu) -> None:
    async with create_runner(ENF, worker_num=1) as runner:
        npu.hold()
        task = asyncio.create_task(runner.run(ones()))
        await anyio.to_thread.run_sync(npu.wait_until_taken, 1)
        task.cancel()
        await asyncio.wait([task])
        assert runner.stats() == Stats(in_flight=1)
        npu.go.set()
        await runner.run(ones())
        assert runner.stats() == Stats(completed=2)


def test_times_are_those_of_completed_runs() -> None:
    tally = Tally()
    tally.count(Completion(1, CompletionStatus.OK, task_ns=30, tensor_ns=20))
    tally.count(Completion(2, CompletionStatus.OK, task_ns=12, tensor_ns=5))
    tally.count(Completion(3, CompletionStatus.EXECUTION_FAILED, task_ns=1000, tensor_ns=1000))
    stats = tally.stats(in_flight=1)
    assert stats == Stats(2, 1, 1, 42, 25)
    assert stats + Stats(1, 1, 1, 1, 1) == Stats(3, 2, 2, 43, 26)
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.completed = 0  # type: ignore[misc]  # what is tested
