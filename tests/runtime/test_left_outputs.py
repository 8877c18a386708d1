"""Large outputs stay where the device put them, until their last view is gone."""

import gc
import threading
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from furiosa.common.model_limits import ENF_MAGIC
from furiosa.common.tensor import DType, TensorSpec
from furiosa.runtime import sync
from furiosa.runtime._core.places import LEFT_BYTES, SPARE_BYTES, Layout, Places
from support.fake_connection import FakeNpu
from support.twins import Twin

ENF = ENF_MAGIC + b"program"
X = TensorSpec("x", DType.FLOAT32, (4,))
LARGE = TensorSpec("large", DType.FLOAT32, (LEFT_BYTES // 4,))
SMALL = TensorSpec("small", DType.INT8, (3, 5))
LEVEL = TensorSpec("level", DType.INT64, ())


def arena_of(layout: Layout) -> npt.NDArray[np.uint8]:
    return np.zeros(layout.geometry.arena_bytes, np.uint8)


def written(arena: npt.NDArray[np.uint8], places: Places, slot: int, value: int) -> None:
    """As the device would: all outputs of the run in `slot`."""
    start = places.outputs_at[slot]
    arena[start : start + places._layout.outputs.nbytes] = value


@pytest.fixture
def npu(npu: FakeNpu) -> FakeNpu:
    npu.inputs, npu.outputs = (X,), (LARGE, SMALL)
    npu.function = lambda given: [
        np.full(LARGE.shape, given[0][0], np.float32),
        np.full(SMALL.shape, given[0][1], np.int8),
    ]
    return npu


def given(value: float) -> Any:
    return np.full(4, value, np.float32)


@pytest.mark.parametrize(
    ("outputs", "spares"),
    [
        ([SMALL], 0),
        ([LARGE], 3),
        ([TensorSpec("y", DType.UINT8, (SPARE_BYTES // 2,))], 2),
        ([TensorSpec("y", DType.UINT8, (SPARE_BYTES + 64,))], 0),
    ],
)
def test_only_large_outputs_have_spare_blocks_and_not_too_many(
    outputs: list[TensorSpec], spares: int
) -> None:
    layout = Layout([X], outputs, 3)
    assert layout.spares == spares
    in_slots = 3 * (2 * layout.inputs.nbytes + layout.outputs.nbytes)
    assert layout.geometry.arena_bytes == in_slots + spares * layout.outputs.nbytes


async def test_large_outputs_are_not_copied_and_small_ones_are(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF)
    large, small = await twin.run(runner, given(3))
    assert np.all(large == 3)
    assert np.all(small == 3)
    assert not large.flags.owndata
    assert large.flags.writeable
    (alone,) = await twin.run_with(runner, ["small"], {"x": given(4)})
    assert alone.flags.owndata
    await twin.close(runner)


async def test_who_keeps_every_result_holds_up_nobody(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF, worker_num=2)
    kept = [await twin.run(runner, given(value)) for value in range(20)]
    assert [large.flags.owndata for large, _ in kept] == [False] * 2 + [True] * 18
    for value, (large, small) in enumerate(kept):
        assert np.all(large == value)
        assert np.all(small == value)
    await twin.close(runner)
    for value, (large, _) in enumerate(kept):
        assert np.all(large == value), "still memory"
        large[...] = 0


async def test_who_drops_results_has_them_where_they_are_for_ever(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF, worker_num=1)
    for value in range(10):
        large, _ = await twin.run(runner, given(value))
        assert not large.flags.owndata, value
        assert np.all(large == value)
        del large, _
    await twin.close(runner)


VIEWS = {
    "a slice": lambda array: array[1:3],
    "a reversal of a reshaped one": lambda array: array.reshape(2, -1)[::-1],
    "another type": lambda array: array.view(np.uint8),
    "a scalar view": lambda array: array[5:6].reshape(()),
    "its buffer": memoryview,
    "an array on its buffer": lambda array: np.frombuffer(memoryview(array), np.float32),
    "a subclass": lambda array: array.view(np.recarray),
    "an iterator": lambda array: array.flat,
    "its base": lambda array: array.base,
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_whatever_looks_at_the_memory_keeps_it(npu: FakeNpu, view: Any) -> None:
    with sync.create_runner(ENF, worker_num=1) as runner:
        held = view(runner.run(given(7))[0])
        before = np.array(held).tobytes()
        for value in range(8):
            large, _ = runner.run(given(value))
            assert large.flags.owndata, "the only spare block is taken"
        assert np.array(held).tobytes() == before
        del held
        gc.collect()
        large, _ = runner.run(given(1))
        assert not large.flags.owndata
        del large


def test_one_output_keeps_the_others_of_its_run(npu: FakeNpu) -> None:
    with sync.create_runner(ENF, worker_num=1) as runner:
        _, small = runner.run(given(7))
        for value in range(4):
            runner.run(given(value))
        assert np.all(small == 7)


async def test_outputs_outlive_the_worker_that_made_them(npu: FakeNpu, twin: Twin) -> None:
    runner = await twin.create_runner(ENF, worker_num=1)
    large, _ = await twin.run(runner, given(7))
    npu.kill_worker()
    again, _ = await twin.run(runner, given(8))
    assert np.all(large == 7)
    assert np.all(again == 8)
    await twin.close(runner)


def test_outputs_do_not_keep_a_forgotten_runner(npu: FakeNpu) -> None:
    runner = sync.create_runner(ENF)
    large, _ = runner.run(given(7))
    loaded = weakref.ref(runner._loaded)
    del runner
    gc.collect()
    assert loaded() is None
    assert npu.released or npu.hung_up
    assert np.all(large == 7)


def test_the_last_view_may_die_in_any_thread(npu: FakeNpu) -> None:
    wrong: list[Any] = []

    def work(number: int, runner: sync.Runner) -> None:
        kept: list[Any] = []
        for index in range(60):
            value = (number * 7 + index) % 100
            kept.append((value, *runner.run(given(value))))
            if index % 3 == number % 3:
                kept.pop(0)
            wrong.extend(v for v, large, small in kept if large[-1] != v or small[-1, -1] != v)
            if len(kept) > 4:
                others.append(kept.pop())  # to die wherever that list is cleared
            if index % 10 == 0:
                others.clear()

    others: list[Any] = []
    with sync.create_runner(ENF, worker_num=4) as runner:
        threads = [threading.Thread(target=work, args=(n, runner)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        others.clear()
        places = runner._loaded._deployments[0]._places[0]
        assert len(places._spare) + len(places._given_up) == 4, "none was lost"
    assert wrong == []


class AnyLife(RuleBasedStateMachine):
    """Whoever keeps what for how long: the device never writes where somebody still looks."""

    def __init__(self) -> None:
        super().__init__()
        self.layout = Layout([X], [LARGE, SMALL, LEVEL], 2)
        self.arena = arena_of(self.layout)
        self.places = Places(self.arena, self.layout)
        self.running: list[tuple[int, int]] = []
        self.kept: list[tuple[int, Any]] = []
        self.next = 1

    @precondition(lambda self: len(self.running) < 2)
    @rule()
    def begin(self) -> None:
        slot = self.places.slots.take()
        assert slot is not None, "results that are kept take no slot"
        self.running.append((slot, self.next))
        written(self.arena, self.places, slot, self.next)
        self.next = self.next % 100 + 1

    @precondition(lambda self: self.running)
    @rule(index=st.integers(0, 1), wanted=st.sampled_from([(0, 1, 2), (2, 0), (1,), (0,)]))
    def end(self, index: int, wanted: tuple[int, ...]) -> None:
        slot, value = self.running.pop(index % len(self.running))
        self.kept += [(value, array) for array in self.places.outputs(slot, wanted)]
        self.places.slots.give(slot)

    @precondition(lambda self: self.kept)
    @rule(index=st.integers(0, 20))
    def drop(self, index: int) -> None:
        del self.kept[index % len(self.kept)]

    @precondition(lambda self: self.kept)
    @rule(index=st.integers(0, 20))
    def keep_a_view_instead(self, index: int) -> None:
        value, array = self.kept.pop(index % len(self.kept))
        self.kept.append((value, array[..., -1:] if array.ndim else array.reshape(1)))

    @invariant()
    def nothing_changes_under_its_holder(self) -> None:
        for value, array in self.kept:
            assert set(array.reshape(-1).view(np.uint8)[-8:].tolist()) == {value}

    @invariant()
    def blocks_are_neither_lost_nor_shared(self) -> None:
        spare = [*self.places._spare, *(left.base for left in self.places._given_up)]
        left = [base for base, block in self.places._left.items() if block() is not None]
        blocks = [*spare, *left, *self.places.outputs_at.values()]
        assert sorted(blocks) == sorted(self.places._outputs)


TestAnyLife = AnyLife.TestCase
TestAnyLife.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
