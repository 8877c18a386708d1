"""The calls of a queue may be cancelled at each await, and a queue may be dropped in any state."""

import asyncio
import gc
import os
import threading
from typing import Any

import anyio
import numpy as np
import pytest

from furiosa.runtime import Runtime, Submitter, create_queue, sync
from furiosa.runtime._core.errors import FuriosaRuntimeError, SessionClosed
from support.fake_connection import FakeNpu
from support.runners import ENF, ones


async def cancel(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def others() -> "set[asyncio.Task[Any]]":
    return asyncio.all_tasks() - {asyncio.current_task()}


async def test_a_recv_cancelled_as_its_result_comes_leaves_it_to_another(npu: FakeNpu) -> None:
    async with create_queue(ENF, worker_num=1) as (submitter, receiver):
        first, second = (asyncio.create_task(receiver.recv()) for _ in range(2))
        line = receiver._queue._line
        while len(line.receivers) < 2:
            await anyio.lowlevel.checkpoint()
        await submitter.submit(ones(), "it")
        while not line._finished:
            await anyio.lowlevel.checkpoint()
        await cancel(first)
        assert (await second)[0] == "it"


async def test_a_cancelled_submit_has_queued_nothing_and_holds_up_nobody(npu: FakeNpu) -> None:
    async with create_queue(ENF, worker_num=1, input_queue_size=1) as (submitter, receiver):
        npu.hold()
        await submitter.submit(ones(0), 0)
        await anyio.to_thread.run_sync(npu.wait_until_taken, 1)
        await submitter.submit(ones(1), 1)
        line = submitter._queue._line
        tasks = []
        for context in (2, 3, 4):
            tasks.append(asyncio.create_task(submitter.submit(ones(context), context)))
            while len(line.senders) < len(tasks):
                await anyio.lowlevel.checkpoint()
        await cancel(tasks[0])
        npu.go.set()
        while len(line.senders) == 2:
            await anyio.lowlevel.checkpoint()
        await asyncio.gather(*tasks[1:])
        await submitter.close()
        assert [context async for context, _ in receiver] == [0, 1, 3, 4]


async def test_a_submit_cancelled_as_its_turn_comes_leaves_it_to_the_next(npu: FakeNpu) -> None:
    async with create_queue(ENF, worker_num=1, input_queue_size=1, output_queue_size=1) as (
        submitter,
        receiver,
    ):
        line = submitter._queue._line
        full = asyncio.create_task(_submit(submitter, 3))
        while len(line._finished) < 2:
            await anyio.lowlevel.checkpoint()
        await full
        first = asyncio.create_task(submitter.submit(ones(), "first"))
        second = asyncio.create_task(submitter.submit(ones(), "second"))
        while len(line.senders) < 2:
            await anyio.lowlevel.checkpoint()
        await receiver.recv()  # makes room for one
        await cancel(first)
        await second
        await submitter.close()
        assert [context async for context, _ in receiver] == [1, 2, "second"]


async def _submit(submitter: Submitter, number: int) -> None:
    for value in range(number):
        await submitter.submit(ones(value), value)


async def test_a_cancelled_scope_still_closes_what_it_opened(npu: FakeNpu) -> None:
    before = others()
    with anyio.CancelScope() as scope:
        async with Runtime() as runtime, runtime.create_queue(ENF) as (submitter, _):
            await submitter.submit(ones())
            scope.cancel()
    assert npu.released == ["lease-1"]
    assert npu.hung_up == 1
    while others() != before:
        await anyio.lowlevel.checkpoint()


async def test_a_cancelled_close_closes_nevertheless(npu: FakeNpu) -> None:
    before = others()
    submitter, receiver = await create_queue(ENF)
    npu.hold()
    await submitter.submit(ones())
    await anyio.to_thread.run_sync(npu.wait_until_taken, 1)
    closing = asyncio.create_task(receiver.close())
    while not receiver._queue._line.over:
        await anyio.lowlevel.checkpoint()
    await cancel(closing)
    assert npu.released == ["lease-1"]
    npu.go.set()
    while others() != before:
        await anyio.lowlevel.checkpoint()


async def test_no_task_is_left_after_close(npu: FakeNpu) -> None:
    before = others()
    async with create_queue(ENF, worker_num=3) as (submitter, receiver):
        for value in range(10):
            await submitter.submit(ones(value))
        await receiver.recv()
        assert others() != before
    assert others() == before


async def test_tasks_cancelled_from_outside_end_the_queue(npu: FakeNpu) -> None:
    before = others()
    _, receiver = await create_queue(ENF)
    waiting = asyncio.create_task(receiver.recv())
    while not receiver._queue._line.receivers:
        await anyio.lowlevel.checkpoint()
    for task in others() - before - {waiting}:
        task.cancel()
    with pytest.raises(FuriosaRuntimeError, match="a worker of it was interrupted"):
        await waiting
    await receiver.close()


async def test_a_dropped_queue_gives_everything_back(npu: FakeNpu) -> None:
    before = others()
    ends = await create_queue(ENF)
    await ends.submitter.submit(ones())
    del ends
    gc.collect()
    while not npu.released or others() != before:
        await anyio.lowlevel.checkpoint()
    assert npu.hung_up == 1


async def test_a_dropped_receiver_closes_the_queue(npu: FakeNpu) -> None:
    submitter, receiver = await create_queue(ENF)
    del receiver
    gc.collect()
    while not npu.released:
        await anyio.lowlevel.checkpoint()
    with pytest.raises(SessionClosed, match="the receiver is closed"):
        await submitter.submit(ones())


async def test_a_dropped_submitter_is_a_closed_one(npu: FakeNpu) -> None:
    submitter, receiver = await create_queue(ENF)
    await _submit(submitter, 3)
    del submitter
    gc.collect()
    assert sorted([context async for context, _ in receiver]) == [0, 1, 2]
    await receiver.close()


# --- the blocking style


def ours() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "furiosa-queue"}


def test_a_dropped_blocking_queue_ends_its_threads_and_gives_everything_back(npu: FakeNpu) -> None:
    submitter, receiver = sync.create_queue(ENF)
    submitter.submit(ones())
    receiver.recv()
    threads = ours()
    assert threads
    del submitter, receiver
    gc.collect()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert npu.released == ["lease-1"]
    assert npu.hung_up == 1


def test_a_dropped_blocking_submitter_is_a_closed_one(npu: FakeNpu) -> None:
    submitter, receiver = sync.create_queue(ENF)
    submitter.submit(ones(), 1)
    del submitter
    gc.collect()
    assert [context for context, _ in receiver] == [1]
    receiver.close()


def test_the_threads_end_with_the_lease(npu: FakeNpu) -> None:
    submitter, receiver = sync.create_queue(ENF)
    submitter.submit(ones())
    receiver.recv()
    threads = ours()
    npu.end_lease()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    receiver.close()
    assert not submitter._queue._line.senders


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_is_told_and_does_not_wait(npu: FakeNpu) -> None:
    with sync.create_queue(ENF) as (submitter, receiver):
        for call in (receiver.recv, lambda: submitter.submit(ones())):
            child = os.fork()
            if child == 0:
                try:
                    call()
                except FuriosaRuntimeError as error:
                    os._exit(7 if "a forked child creates its own" in str(error) else 1)
                finally:
                    os._exit(2)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        submitter.submit(ones(2), 1)
        assert np.array_equal(receiver.recv()[1][0], ones(4))


def test_close_waits_for_the_threads(npu: FakeNpu) -> None:
    submitter, receiver = sync.create_queue(ENF)
    crew = receiver._queue._crew
    go = threading.Event()
    crew.start(wait_for, go)
    assert not crew.ended(0)
    submitter.submit(ones())
    closing = threading.Thread(target=receiver.close)
    closing.start()
    while not npu.released:
        threading.Event().wait(0)
    assert closing.is_alive()
    go.set()
    closing.join()
    assert ours() == set()


def wait_for(event: threading.Event) -> None:
    assert event.wait(10)
