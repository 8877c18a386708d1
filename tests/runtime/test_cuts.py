"""Every asynchronous call, cancelled at each of its awaits: nothing is left, and what it was called on
works or is closed.
"""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import pytest

from furiosa.runtime import Receiver, Runner, Runtime, Submitter, create_queue, create_runner
from furiosa.runtime._core.errors import SessionClosed
from support.cuts import MOST, Cut, background_tasks
from support.fake_connection import FakeNpu
from support.leftovers import nothing_left
from support.runners import ENF, ones

Life = Callable[[FakeNpu, Cut], Awaitable[None]]


async def right(runner: Runner, value: float) -> None:
    (output,) = await runner.run(ones(value))
    assert np.array_equal(output, ones(2 * value))


async def until(condition: Callable[[], Any]) -> None:
    while not condition():
        await anyio.lowlevel.checkpoint()


@asynccontextmanager
async def sound(worker_num: int) -> AsyncIterator[Runner]:
    """A runner that works at the end, too."""
    async with create_runner(ENF, worker_num=worker_num) as runner:
        yield runner
        await right(runner, 3)
        runner._loaded._deployments[0].runs.check()


async def creating_a_runner(npu: FakeNpu, cut: Cut) -> None:
    runner = await cut(create_runner(ENF))
    if cut.done:
        await right(runner, 2)
        await runner.close()


async def running(npu: FakeNpu, cut: Cut) -> None:
    async with sound(1) as runner:
        await cut(runner.run(ones()))


async def running_by_names(npu: FakeNpu, cut: Cut) -> None:
    async with sound(1) as runner:
        await cut(runner.run_with(["y"], {"x": ones()}))


async def running_before_others(npu: FakeNpu, cut: Cut) -> None:
    """It leads, and they follow."""
    async with sound(2) as runner, anyio.create_task_group() as group:
        runs = runner._loaded._deployments[0].runs
        npu.hold()
        group.start_soon(cut, runner.run(ones()))
        await until(lambda: runs._leader or cut.came)
        for value in range(4):
            group.start_soon(right, runner, value)
        await until(lambda: len(runs._owned) >= 4)
        npu.go.set()


async def running_after_others(npu: FakeNpu, cut: Cut) -> None:
    async with sound(2) as runner, anyio.create_task_group() as group:
        for value in range(4):
            group.start_soon(right, runner, value)
        await anyio.lowlevel.checkpoint()
        await cut(runner.run(ones()))


async def running_on_a_dead_worker(npu: FakeNpu, cut: Cut) -> None:
    async with sound(1) as runner:
        npu.kill_worker()
        await cut(runner.run(ones()))


async def closing_a_runner(npu: FakeNpu, cut: Cut) -> None:
    runner = await create_runner(ENF)
    await cut(runner.close())
    assert await runner.close()


async def closing_a_busy_runner(npu: FakeNpu, cut: Cut) -> None:
    runner = await create_runner(ENF, worker_num=1)
    npu.hold()

    async def run() -> None:
        try:
            await right(runner, 1)
        except SessionClosed:
            assert not cut.done

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        group.start_soon(run)
        await until(lambda: len(runner._loaded._deployments[0].runs._owned) == 2)
        group.start_soon(cut, runner.close())
        await until(lambda: runner._loaded._session.phase.value == "closed" or cut.came)
        await anyio.lowlevel.checkpoint()
        npu.go.set()
    await runner.close()


async def entering_a_runtime(npu: FakeNpu, cut: Cut) -> None:
    runtime = Runtime()
    await cut(runtime.__aenter__())
    async with runtime, runtime.create_runner(ENF) as runner:
        await right(runner, 2)


async def creating_a_runner_of_a_runtime(npu: FakeNpu, cut: Cut) -> None:
    async with Runtime() as runtime:
        runner = await cut(runtime.create_runner(ENF))
        if not cut.done:
            assert npu.programs == set()
            assert npu.servers == {}
            runner = await runtime.create_runner(ENF)
        await right(runner, 2)


async def closing_a_runtime(npu: FakeNpu, cut: Cut) -> None:
    runtime = Runtime()
    runner = await runtime.create_runner(ENF)
    submitter, _ = await runtime.create_queue(ENF)
    await submitter.submit(ones())
    await cut(runtime.close())
    await runtime.close()
    with pytest.raises(SessionClosed):
        await runner.run(ones())
    with pytest.raises(SessionClosed):
        await submitter.submit(ones())


async def creating_a_queue(npu: FakeNpu, cut: Cut) -> None:
    ends = await cut(create_queue(ENF))
    if cut.done:
        async with ends:
            pass


@asynccontextmanager
async def a_queue() -> AsyncIterator[tuple[Submitter, Receiver]]:
    async with create_queue(ENF, worker_num=1, input_queue_size=1) as ends:
        yield ends


async def submitting_when_there_is_no_room(npu: FakeNpu, cut: Cut) -> None:
    async with a_queue() as (submitter, receiver), anyio.create_task_group() as group:
        line = submitter._queue._line
        npu.hold()
        await submitter.submit(ones(), 0)
        await submitter.submit(ones(), 1)
        group.start_soon(cut, submitter.submit(ones(), 2))
        await until(lambda: line.senders or cut.came)
        before = set(line.senders)
        group.start_soon(submitter.submit, ones(), 3)  # its turn comes, whatever the other one does
        await until(lambda: set(line.senders) - before)
        npu.go.set()
        await until(lambda: not line.senders)
        await submitter.close()
        assert [context async for context, _ in receiver] == [0, 1, *([2] * cut.done), 3]


async def receiving(npu: FakeNpu, cut: Cut) -> None:
    async with a_queue() as (submitter, receiver), anyio.create_task_group() as group:
        line = submitter._queue._line
        got: list[object] = []

        async def receive() -> None:
            result = await cut(receiver.recv())
            if cut.done:
                got.append(result[0])

        group.start_soon(receive)
        await until(lambda: line.receivers or cut.came)
        await submitter.submit(ones(), "it")
        await submitter.close()
        got += [context async for context, _ in receiver]
        await until(lambda: not line.receivers)
        assert got == ["it"]


async def iterating(npu: FakeNpu, cut: Cut) -> None:
    async with a_queue() as (submitter, receiver):
        got: list[Any] = []

        async def feed() -> None:
            async with submitter:
                for value in range(4):
                    await submitter.submit(ones(value), value)

        async def iterate() -> None:
            async for context, _ in receiver:
                got.append(context)

        async with anyio.create_task_group() as group:
            group.start_soon(feed)
            await cut(iterate())
            got += [context async for context, _ in receiver]
        assert sorted(got) == [0, 1, 2, 3] if cut.done else len(got) >= 3


async def closing_a_receiver(npu: FakeNpu, cut: Cut) -> None:
    submitter, receiver = await create_queue(ENF, worker_num=1)
    npu.hold()
    await submitter.submit(ones(), 0)
    await submitter.submit(ones(), 1)
    async with anyio.create_task_group() as group:
        group.start_soon(cut, receiver.close())
        await until(lambda: submitter._queue._line.over or cut.came)
        npu.go.set()
    await receiver.close()
    with pytest.raises(SessionClosed):
        await receiver.recv()


LIVES = (
    creating_a_runner,
    running,
    running_by_names,
    running_before_others,
    running_after_others,
    running_on_a_dead_worker,
    closing_a_runner,
    closing_a_busy_runner,
    entering_a_runtime,
    creating_a_runner_of_a_runtime,
    closing_a_runtime,
    creating_a_queue,
    submitting_when_there_is_no_room,
    receiving,
    iterating,
    closing_a_receiver,
)


@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.__name__)
@pytest.mark.parametrize("how", ["asyncio-scope", "asyncio-task", "asyncio-late", "trio-scope"])
def test_cancelled_at_each_await(npu: FakeNpu, life: Life, how: str) -> None:
    backend, way = how.split("-")

    async def main() -> None:
        tasks = background_tasks(backend)
        for place in itertools.count(1):
            cut = Cut(place, way)
            with anyio.fail_after(30), nothing_left(npu, by_hand=True):
                await life(npu, cut)
                await until(lambda: background_tasks(backend) == tasks)
            if not cut.came:
                assert cut.done
                assert place > 1, "it waits nowhere"
                return
            assert place < MOST
            npu.go.set()

    anyio.run(main, backend=backend)
