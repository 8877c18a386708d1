"""What a runner does, in both styles, on a device that works."""

import threading
from typing import Any

import anyio
import numpy as np
import pytest

from furiosa.common.model_limits import ENF_MAGIC
from furiosa.common.tensor import DType, TensorSpec
from furiosa.queuepair import CompletionStatus
from furiosa.runtime import FuriosaRuntimeError, create_runner, sync
from furiosa.runtime._core.places import Layout
from support.fake_connection import FakeNpu, X, Y
from support.twins import Twin

ENF = ENF_MAGIC + b"program"
SUM = TensorSpec("sum", DType.FLOAT32, (2, 3))
DIFFERENCE = TensorSpec("difference", DType.FLOAT32, (2, 3))
LEFT = TensorSpec("left", DType.FLOAT32, (2, 3))
RIGHT = TensorSpec("right", DType.FLOAT32, (2, 3))


def ones(value: float = 1) -> Any:
    return np.full(X.shape, value, np.float32)


@pytest.fixture
def two_by_two(npu: FakeNpu) -> FakeNpu:
    npu.inputs, npu.outputs = (LEFT, RIGHT), (SUM, DIFFERENCE)
    npu.function = lambda given: [given[0] + given[1], given[0] - given[1]]
    return npu


async def test_an_inference(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF)
    (output,) = await twin.run(runner, [ones(3)])
    assert np.array_equal(output, ones(6))
    assert npu.loaded == [ENF]
    await twin.close(runner)


async def test_the_model_is_described_by_the_program(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF)
    assert runner.model.summary().splitlines()[1] == (
        '{0: TensorDesc(name="x", shape=(1, 1, 28, 28), dtype=FLOAT32, format=NCHW, size=3136, len=784)}'
    )
    await twin.close(runner)


async def test_a_bare_array_and_a_list_of_one_give_the_same(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF)
    (bare,) = await twin.run(runner, ones(2))
    (listed,) = await twin.run(runner, [ones(2)])
    assert np.array_equal(bare, listed)
    await twin.close(runner)


async def test_inputs_in_any_memory_layout(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF)
    image = np.arange(784, dtype=np.float32).reshape(X.shape)
    spread = np.repeat(image, 2, axis=3)[..., ::2]
    assert not spread.flags.c_contiguous
    (output,) = await twin.run(runner, [spread])
    assert np.array_equal(output, image * 2)
    await twin.close(runner)


async def test_inputs_and_outputs_by_name(two_by_two: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF)
    left, right = np.full((2, 3), 5, np.float32), np.full((2, 3), 2, np.float32)
    named = {"right": right, "left": left}
    difference, total = await twin.run_with(runner, ["difference", "sum"], named)
    assert np.array_equal(total, left + right)
    assert np.array_equal(difference, left - right)
    (only,) = await twin.run_with(runner, ["difference"], named)
    assert np.array_equal(only, difference)
    await twin.close(runner)


async def test_no_output_names_is_a_type_error(two_by_two: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF)
    names: Any = None
    with pytest.raises(TypeError, match="output_names: expected a list of str, found None"):
        await twin.run_with(runner, names, {})
    await twin.close(runner)


async def test_bad_inputs_are_refused_before_anything_is_sent(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF)
    with pytest.raises(TypeError, match=r"input 0 \('x'\): expected .* but got .* \(float64\)"):
        await twin.run(runner, [ones().astype(np.float64)])
    with pytest.raises(ValueError, match=r"input 0 \('x'\): expected .* but got \(28, 28\)"):
        await twin.run(runner, [ones()[0, 0]])
    assert npu.seen == []
    await twin.close(runner)


async def test_results_stay_valid_after_later_runs_and_the_end(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF, worker_num=1)
    (first,) = await twin.run(runner, ones(1))
    (second,) = await twin.run(runner, ones(2))
    await twin.close(runner)
    assert np.array_equal(first, ones(2))
    assert np.array_equal(second, ones(4))
    assert first.flags.owndata
    assert first.flags.writeable


async def test_allocated_inputs_are_read_where_they_are(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF)
    layout = Layout([X], [Y], 2)
    (array,) = runner.allocate()
    array[...] = 4
    (output,) = await twin.run(runner, [array])
    assert np.array_equal(output, ones(8))
    assert npu.seen[-1].input_offset >= 2 * layout.slot_bytes
    await twin.run(runner, [array.copy()])
    assert npu.seen[-1].input_offset < 2 * layout.slot_bytes
    await twin.close(runner)
    array[...] = 5  # still memory


async def test_allocated_inputs_on_a_busier_device_are_copied(npu: FakeNpu, twin: Twin) -> None:
    npu.files = ("npu0pe0", "npu0pe1")
    runner = await twin.create_runner(ENF, device="warboy(1)*2", worker_num=1)
    (lent,) = runner.allocate()  # from the first device
    lent[...] = 4
    npu.hold()
    outputs: list[Any] = []

    async def run() -> None:
        outputs.extend(await twin.run(runner, [lent]))

    async with anyio.create_task_group() as group:
        group.start_soon(twin.run, runner, ones())
        await anyio.to_thread.run_sync(npu.wait_until_taken, 1)
        group.start_soon(run)
        await anyio.to_thread.run_sync(npu.wait_until_taken, 2)
        npu.go.set()
    assert np.array_equal(outputs[0], ones(8))
    assert [submission.input_offset for submission in npu.seen] == [0, 0]
    await twin.close(runner)


async def test_allocation_never_runs_out(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF, worker_num=2)
    sets = [runner.allocate() for _ in range(5)]
    for value, (array,) in enumerate(sets):
        assert (array.shape, array.dtype) == (X.shape, np.float32)
        array[...] = value
    for value, arrays in enumerate(sets):
        (output,) = await twin.run(runner, arrays)
        assert np.array_equal(output, ones(2 * value))
    await twin.close(runner)


async def test_no_more_runs_in_flight_than_workers(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF, worker_num=2)
    npu.hold()
    outputs: list[Any] = []

    async def run(value: int) -> None:
        outputs.append((value, (await twin.run(runner, ones(value)))[0]))

    async with anyio.create_task_group() as group:
        for value in range(6):
            group.start_soon(run, value)
        await anyio.to_thread.run_sync(npu.wait_until_taken, 1)
        runs = runner._loaded._deployments[0].runs
        assert len(runs._submitted) <= 2
        npu.go.set()
    assert sorted(value for value, _ in outputs) == list(range(6))
    assert all(np.array_equal(output, ones(2 * value)) for value, output in outputs)
    assert {submission.output_offset for submission in npu.seen} <= {3136, 3136 * 3}
    await twin.close(runner)


@pytest.mark.parametrize("status", [CompletionStatus.EXECUTION_FAILED, CompletionStatus.BAD_RECORD])
async def test_a_run_that_fails_on_the_device_says_so(
    npu: FakeNpu, twin: Twin, status: CompletionStatus
) -> None:
    runner = await twin.create_runner(ENF)
    npu.status = status
    with pytest.raises(FuriosaRuntimeError, match=r"^npu0pe0-1: the "):
        await twin.run(runner, ones())
    npu.status = CompletionStatus.OK
    (output,) = await twin.run(runner, ones())
    assert np.array_equal(output, ones(2))
    await twin.close(runner)


VALUES = 200


def test_eight_threads_share_a_runner_on_two_devices(npu: FakeNpu) -> None:
    npu.files = ("npu0pe0", "npu0pe1")
    wrong: list[object] = []

    def work(number: int, runner: sync.Runner) -> None:
        for index in range(VALUES):
            value = number * VALUES + index
            (output,) = runner.run(ones(value))
            if not np.array_equal(output, ones(2 * value)):
                wrong.append((number, index))

    with sync.create_runner(ENF, device="warboy(1)*2") as runner:
        threads = [threading.Thread(target=work, args=(n, runner)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert len(npu.seen) == 8 * VALUES


async def test_eight_tasks_share_a_runner_on_two_devices(npu: FakeNpu) -> None:
    npu.files = ("npu0pe0", "npu0pe1")
    wrong: list[object] = []

    async with create_runner(ENF, device="warboy(1)*2") as runner:

        async def work(number: int) -> None:
            for index in range(VALUES):
                value = number * VALUES + index
                (output,) = await runner.run(ones(value))
                if not np.array_equal(output, ones(2 * value)):
                    wrong.append((number, index))

        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(work, number)
    assert wrong == []
    assert len(npu.seen) == 8 * VALUES


async def test_runs_spread_over_the_devices(npu: FakeNpu, twin: Twin) -> None:
    npu.files = ("npu0pe0", "npu0pe1")
    runner = await twin.create_runner(ENF, device="npu:0:0,npu:0:1", worker_num=1)
    npu.hold()
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(twin.run, runner, ones())
        await anyio.to_thread.run_sync(npu.wait_until_taken, 2)  # one queue holds only one
        npu.go.set()
    await twin.close(runner)
