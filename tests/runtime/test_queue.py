"""What a queue does, in both styles, on a device that works."""

import threading
from typing import Any

import anyio
import numpy as np
import pytest

from furiosa.queuepair import CompletionStatus
from furiosa.runtime import FuriosaRuntimeError, create_queue, sync
from furiosa.runtime._core.errors import SessionClosed, SessionTerminated
from support.fake_connection import FakeNpu
from support.runners import ENF, ones
from support.twins import Twin


async def for_ever(twin: Twin, submitter: Any) -> None:
    while True:
        await twin.submit(submitter, ones())


async def test_results_come_with_the_contexts_of_their_submissions(
    npu: FakeNpu, twin: Twin
) -> None:
    submitter, receiver = await twin.create_queue(ENF, worker_num=4)
    for value in range(20):
        await twin.submit(submitter, ones(value), {"value": value})
    await twin.close(submitter)
    received = await twin.everything(receiver)
    assert sorted(context["value"] for context, _ in received) == list(range(20))
    for context, (output,) in received:
        assert np.array_equal(output, ones(2 * context["value"]))
    assert await twin.close(receiver) is True
    assert npu.released == ["lease-1"]


async def test_the_context_is_none_unless_given(npu: FakeNpu, twin: Twin) -> None:
    submitter, receiver = await twin.create_queue(ENF)
    await twin.submit(submitter, [ones()])
    context, (output,) = await twin.recv(receiver)
    assert context is None
    assert np.array_equal(output, ones(2))
    await twin.close(receiver)


async def test_results_come_in_the_order_in_which_they_are_finished(
    npu: FakeNpu, twin: Twin
) -> None:
    npu.files = ("npu0pe0", "npu0pe1")
    submitter, receiver = await twin.create_queue(ENF, device="warboy(1)*2", worker_num=1)
    first_taken = threading.Event()
    release = threading.Event()

    def function(inputs: list[Any]) -> list[Any]:
        if inputs[0].flat[0] == 1:
            first_taken.set()
            assert release.wait(10)
        return [inputs[0] * 2]

    npu.function = function
    await twin.submit(submitter, ones(1), "first")
    await anyio.to_thread.run_sync(first_taken.wait, 10)
    await twin.submit(submitter, ones(2), "second")
    assert (await twin.recv(receiver))[0] == "second"
    release.set()
    assert (await twin.recv(receiver))[0] == "first"
    await twin.close(receiver)


async def test_work_goes_on_until_the_queues_are_full_and_then_submit_waits(
    npu: FakeNpu, twin: Twin
) -> None:
    submitter, receiver = await twin.create_queue(
        ENF, worker_num=1, input_queue_size=2, output_queue_size=3
    )
    submitted: list[int] = []

    async def submit() -> None:
        for value in range(10):
            await twin.submit(submitter, ones(value), value)
            submitted.append(value)
        await twin.close(submitter)

    line = submitter._queue._line
    async with anyio.create_task_group() as group:
        group.start_soon(submit)
        while not line.senders:
            await anyio.lowlevel.checkpoint()
        # 3 in the output queue, 1 kept by its worker, 2 in the input queue
        while len(line._finished) < 4 or len(submitted) < 6:
            await anyio.lowlevel.checkpoint()
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        assert (len(submitted), len(npu.seen), len(line._queued)) == (6, 4, 2)
        assert (await twin.recv(receiver))[0] == 0
        while len(submitted) < 7 or len(npu.seen) < 5:
            await anyio.lowlevel.checkpoint()
        assert sorted(context for context, _ in await twin.everything(receiver)) == [*range(1, 10)]
    await twin.close(receiver)


async def test_nothing_more_runs_at_once_than_there_are_workers(npu: FakeNpu, twin: Twin) -> None:
    npu.files = ("npu0pe0", "npu0pe1")
    submitter, receiver = await twin.create_queue(ENF, device="warboy(1)*2", worker_num=2)
    npu.hold()
    for value in range(9):
        await twin.submit(submitter, ones(value), value)
    runs = submitter._queue.loaded._deployments[0].runs
    while len(runs._owned) < 4:
        await anyio.lowlevel.checkpoint()
    for _ in range(20):
        await anyio.lowlevel.checkpoint()
    assert len(runs._owned) == 4
    assert len(submitter._queue._line._queued) == 5
    npu.go.set()
    await twin.close(submitter)
    assert len(await twin.everything(receiver)) == 9
    await twin.close(receiver)


async def test_bad_inputs_are_refused_and_not_queued(npu: FakeNpu, twin: Twin) -> None:
    submitter, receiver = await twin.create_queue(ENF)
    with pytest.raises(TypeError, match=r"input 0 \('x'\): expected .* but got .* \(float64\)"):
        await twin.submit(submitter, ones().astype(np.float64))
    with pytest.raises(ValueError, match=r"1 tensors are expected, but 2 tensors are given"):
        await twin.submit(submitter, [ones(), ones()])
    await twin.close(submitter)
    assert await twin.everything(receiver) == []
    assert npu.seen == []
    await twin.close(receiver)


async def test_a_failed_inference_is_raised_where_its_result_would_be(
    npu: FakeNpu, twin: Twin
) -> None:
    submitter, receiver = await twin.create_queue(ENF, worker_num=1)
    npu.status = CompletionStatus.EXECUTION_FAILED
    await twin.submit(submitter, ones(1), "bad")
    with pytest.raises(FuriosaRuntimeError, match="the inference failed") as caught:
        await twin.recv(receiver)
    assert caught.value.context == "bad"
    npu.status = CompletionStatus.OK
    await twin.submit(submitter, ones(3), "good")
    context, (output,) = await twin.recv(receiver)
    assert context == "good"
    assert np.array_equal(output, ones(6))
    await twin.close(receiver)


async def test_iterating_goes_on_after_a_failed_inference(npu: FakeNpu, twin: Twin) -> None:
    submitter, receiver = await twin.create_queue(ENF, worker_num=1)
    npu.status = CompletionStatus.EXECUTION_FAILED
    await twin.submit(submitter, ones(1), "bad")
    with pytest.raises(FuriosaRuntimeError) as caught:
        await twin.everything(receiver)
    npu.status = CompletionStatus.OK
    await twin.submit(submitter, ones(1), "good")
    await twin.close(submitter)
    ((context, _),) = await twin.everything(receiver)
    assert (caught.value.context, context) == ("bad", "good")
    await twin.close(receiver)


async def test_a_dead_worker_fails_what_ran_and_the_rest_is_done(npu: FakeNpu, twin: Twin) -> None:
    submitter, receiver = await twin.create_queue(ENF, worker_num=1)
    npu.hold()
    await twin.submit(submitter, ones(1), "lost")
    await anyio.to_thread.run_sync(npu.wait_until_taken, 1)
    await twin.submit(submitter, ones(2), "next")
    npu.kill_worker()
    with pytest.raises(FuriosaRuntimeError, match="killed by signal 9") as caught:
        await twin.recv(receiver)
    assert caught.value.context == "lost"
    npu.go.set()
    context, (output,) = await twin.recv(receiver)
    assert context == "next"
    assert np.array_equal(output, ones(4))
    await twin.close(receiver)


async def test_a_closed_submitter_drains(npu: FakeNpu, twin: Twin) -> None:
    submitter, receiver = await twin.create_queue(ENF, worker_num=1)
    npu.hold()
    for value in range(5):
        await twin.submit(submitter, ones(value), value)
    assert await twin.close(submitter) is True
    assert await twin.close(submitter) is True
    with pytest.raises(SessionClosed, match="the submitter is closed"):
        await twin.submit(submitter, ones())
    npu.go.set()
    for value in range(5):
        assert (await twin.recv(receiver))[0] == value
    with pytest.raises(SessionTerminated, match="everything has been received"):
        await twin.recv(receiver)
    assert npu.released == []
    await twin.close(receiver)
    with pytest.raises(SessionClosed, match="the receiver is closed"):
        await twin.recv(receiver)


async def test_a_closed_receiver_drops_what_is_queued_and_stops_submissions(
    npu: FakeNpu, twin: Twin
) -> None:
    submitter, receiver = await twin.create_queue(ENF, worker_num=1)
    npu.hold()
    for value in range(5):
        await twin.submit(submitter, ones(value))
    await anyio.to_thread.run_sync(npu.wait_until_taken, 1)
    async with anyio.create_task_group() as group:
        group.start_soon(twin.close, receiver)
        while not submitter._queue._line.over:
            await anyio.lowlevel.checkpoint()
        with pytest.raises(SessionClosed, match="the receiver is closed"):
            await twin.submit(submitter, ones())
        npu.go.set()
    assert await twin.everything(receiver) == []
    assert len(npu.seen) == 1
    assert npu.released == ["lease-1"]
    assert await twin.close(receiver) is True
    assert submitter.model.input_num == receiver.model.input_num == 1


async def test_closing_the_receiver_ends_every_waiting_call(npu: FakeNpu, twin: Twin) -> None:
    submitter, receiver = await twin.create_queue(
        ENF, worker_num=1, input_queue_size=1, output_queue_size=1
    )
    raised: list[Exception] = []

    async def submit() -> None:
        with pytest.raises(SessionClosed) as caught:
            await for_ever(twin, submitter)
        raised.append(caught.value)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(submit)
        while len(submitter._queue._line.senders) < 3:
            await anyio.lowlevel.checkpoint()
        await twin.close(receiver)
    assert len(raised) == 3


async def test_closing_the_receiver_ends_iteration(npu: FakeNpu, twin: Twin) -> None:
    submitter, receiver = await twin.create_queue(ENF)
    async with anyio.create_task_group() as group:
        group.start_soon(twin.everything, receiver)
        while not submitter._queue._line.receivers:
            await anyio.lowlevel.checkpoint()
        await twin.close(receiver)


@pytest.mark.parametrize("happens", [FakeNpu.end_lease, FakeNpu.die])
@pytest.mark.parametrize("waits", ["recv", "submit"])
async def test_every_waiting_call_raises_when_lease_or_broker_ends(
    npu: FakeNpu, twin: Twin, happens: Any, waits: str
) -> None:
    """Nothing is in flight then: only the queue itself can hear of it."""
    submitter, receiver = await twin.create_queue(
        ENF, worker_num=1, input_queue_size=1, output_queue_size=1, on_broker_restart="raise"
    )
    raised: list[BaseException] = []

    async def call() -> None:
        with pytest.raises(SessionTerminated) as caught:
            await (twin.recv(receiver) if waits == "recv" else for_ever(twin, submitter))
        raised.append(caught.value)

    line = submitter._queue._line
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(call)
        while len(line.senders) + len(line.receivers) < 3 or line._running:
            await anyio.lowlevel.checkpoint()
        happens(npu)
    assert len(raised) == 3
    assert len({id(error) for error in raised}) == 3
    await twin.close(receiver)


async def test_results_from_before_the_end_are_received(npu: FakeNpu, twin: Twin) -> None:
    submitter, receiver = await twin.create_queue(ENF)
    await twin.submit(submitter, ones(), "before")
    while not submitter._queue._line._finished:
        await anyio.lowlevel.checkpoint()
    npu.end_lease()
    while not submitter._queue._line.over:
        await anyio.lowlevel.checkpoint()
    assert (await twin.recv(receiver))[0] == "before"
    with pytest.raises(SessionTerminated, match="revoked by an administrator"):
        await twin.recv(receiver)
    await twin.close(receiver)


async def test_closing_the_runtime_ends_its_queues(npu: FakeNpu, twin: Twin) -> None:
    runtime = twin.runtime()
    submitter, receiver = await twin.queue_of(runtime, ENF)

    async def recv() -> None:
        with pytest.raises(SessionClosed, match="the session is closed"):
            await twin.recv(receiver)

    async with anyio.create_task_group() as group:
        group.start_soon(recv)
        while not submitter._queue._line.receivers:
            await anyio.lowlevel.checkpoint()
        await twin.close(runtime)
    with pytest.raises(SessionClosed, match="the session is closed"):
        await twin.submit(submitter, ones())
    assert await twin.close(receiver) is True


async def test_a_queue_of_a_runtime_leaves_it_open(npu: FakeNpu, twin: Twin) -> None:
    runtime = twin.runtime()
    _, receiver = await twin.queue_of(runtime, ENF)
    runner = await twin.runner_of(runtime, ENF)
    await twin.close(receiver)
    assert npu.unloaded == [1]
    (output,) = await twin.run(runner, ones())
    assert np.array_equal(output, ones(2))
    await twin.close(runtime)


async def test_allocated_inputs_are_read_where_they_are(npu: FakeNpu, twin: Twin) -> None:
    submitter, receiver = await twin.create_queue(ENF)
    (array,) = submitter.allocate()
    array[...] = 4
    await twin.submit(submitter, [array])
    _, (output,) = await twin.recv(receiver)
    assert np.array_equal(output, ones(8))
    assert npu.seen[-1].input_offset > npu.seen[-1].output_offset
    await twin.close(receiver)


@pytest.mark.parametrize("name", ["input_queue_size", "output_queue_size"])
async def test_sizes_are_checked_before_anything_is_leased(
    npu: FakeNpu, twin: Twin, name: str
) -> None:
    for value in (0, -1, 65537):
        with pytest.raises(ValueError, match=f"{name}: expected 1 to 65536, found {value}"):
            await twin.create_queue(ENF, **{name: value})
    for wrong in (True, 1.5, "4"):
        with pytest.raises(TypeError, match=f"{name}: expected an int, found"):
            await twin.create_queue(ENF, **{name: wrong})
    assert npu.acquired == []


async def test_both_ends_close_with_the_block(npu: FakeNpu) -> None:
    async with create_queue(ENF) as (submitter, receiver):
        await submitter.submit(ones(), 1)
        assert (await receiver.recv())[0] == 1
    assert npu.released == ["lease-1"]
    with sync.create_queue(ENF) as (blocking, results):
        blocking.submit(ones(), 2)
        assert results.recv()[0] == 2
    assert npu.released == ["lease-1"] * 2


async def test_each_end_closes_with_its_own_block(npu: FakeNpu) -> None:
    submitter, receiver = await create_queue(ENF)
    async with receiver:
        async with submitter:
            await submitter.submit(ones(), 1)
        assert [context async for context, _ in receiver] == [1]
    assert npu.released == ["lease-1"]


def test_a_blocking_recv_gives_up_in_time(npu: FakeNpu) -> None:
    with sync.create_queue(ENF) as (submitter, receiver):
        for timeout in (0, 0.01):
            with pytest.raises(TimeoutError, match=f"nothing was received within {timeout} s"):
                receiver.recv(timeout)
        with pytest.raises(ValueError, match="timeout: expected a number of seconds that is not"):
            receiver.recv(-1)
        with pytest.raises(TypeError, match="timeout: expected a number of seconds, found str"):
            receiver.recv("1")  # type: ignore[arg-type]  # what is tested
        submitter.submit(ones(), 1)
        assert receiver.recv(timeout=float("inf"))[0] == 1
        assert not submitter._queue._line.receivers


RESULTS = 300


async def test_many_senders_and_receivers_share_small_queues(npu: FakeNpu, twin: Twin) -> None:
    submitter, receiver = await twin.create_queue(
        ENF, worker_num=3, input_queue_size=2, output_queue_size=2
    )
    received: list[tuple[Any, list[Any]]] = []

    async def submit(first: int) -> None:
        for value in range(first, RESULTS, 3):
            await twin.submit(submitter, ones(value), value)

    async def receive() -> None:
        received.extend(await twin.everything(receiver))

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(receive)
        async with anyio.create_task_group() as senders:
            for first in range(3):
                senders.start_soon(submit, first)
        await twin.close(submitter)
    assert sorted(context for context, _ in received) == list(range(RESULTS))
    assert all(np.array_equal(output, ones(2 * value)) for value, (output,) in received)
    await twin.close(receiver)


def test_no_more_threads_than_workers_and_one_that_listens(npu: FakeNpu) -> None:
    before = set(threading.enumerate())
    with sync.create_queue(ENF, worker_num=3) as (submitter, receiver):
        for value in range(100):
            submitter.submit(ones(value))
            if value >= 50:
                receiver.recv()
        started = set(threading.enumerate()) - before
        ours = {thread for thread in started if thread.name == "furiosa-queue"}
        assert len(ours) <= 4
        assert all(thread.daemon for thread in ours)
    assert not any(thread.is_alive() for thread in ours)
