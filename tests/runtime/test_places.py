import gc
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from furiosa.common.tensor import DType, TensorSpec
from furiosa.queuepair import Geometry, tensor_offsets
from furiosa.runtime._core.places import Layout, Loans, Places, checked_workers

A = TensorSpec("a", DType.FLOAT32, (2, 3))
B = TensorSpec("b", DType.UINT8, (5,))
S = TensorSpec("s", DType.INT64, ())
Y = TensorSpec("y", DType.INT8, (70,))


def memory_of(layout: Layout) -> npt.NDArray[np.uint8]:
    return np.zeros(layout.geometry.arena_bytes, np.uint8)


def arrays_of(seed: int) -> list[npt.NDArray[Any]]:
    return [
        np.full((2, 3), seed, np.float32),
        np.full(5, seed, np.uint8),
        np.array(seed, np.int64),
    ]


@pytest.mark.parametrize(("workers", "depth"), [(1, 1), (2, 2), (3, 4), (1024, 1024)])
def test_the_queue_is_as_deep_as_there_are_workers(workers: int, depth: int) -> None:
    layout = Layout([A], [Y], workers)
    # 64 bytes of inputs and 128 of outputs in a slot, and the inputs once more to lend
    assert layout.geometry == Geometry(depth, workers * (64 + 128 + 64))


def test_inputs_lie_where_the_worker_looks_for_them() -> None:
    layout = Layout([A, B, S], [Y], 2)
    memory = memory_of(layout)
    places = Places(memory, layout)
    slots = [places.slots.take() for _ in range(2)]
    for seed, slot in enumerate(slots, start=1):
        assert slot is not None
        places.fill(slot, arrays_of(seed))
    offsets, _ = tensor_offsets([A.nbytes, B.nbytes, S.nbytes])
    for seed, slot in enumerate(slots, start=1):
        assert slot is not None
        for offset, array in zip(offsets, arrays_of(seed), strict=True):
            found = memory[slot + offset : slot + offset + array.nbytes]
            assert found.tobytes() == array.tobytes()


def test_outputs_are_copies_that_outlive_the_slot() -> None:
    layout = Layout([A], [S, Y], 1)
    memory = memory_of(layout)
    places = Places(memory, layout)
    start = places.outputs_at[0]
    memory[start : start + 8] = np.frombuffer(np.int64(7).tobytes(), np.uint8)
    memory[start + 64 : start + 134] = 3
    level, y = places.outputs(0, (0, 1))
    (only,) = places.outputs(0, (1,))
    memory[:] = 0
    assert level.shape == ()
    assert level.dtype == np.int64
    assert level == 7
    assert np.array_equal(y, np.full(70, 3, np.int8))
    assert np.array_equal(only, y)


@pytest.fixture
def layout() -> Layout:
    return Layout([A, B], [Y], 2)


@pytest.fixture
def devices(layout: Layout) -> Sequence[Places]:
    return [Places(memory_of(layout), layout) for _ in range(2)]


def test_loans_take_turns_between_devices_and_are_found_again(devices: Sequence[Places]) -> None:
    loans = Loans(devices)
    sets = [loans.lend() for _ in range(4)]
    assert loans.lend() is None
    found = [loans.find(arrays) for arrays in sets if arrays is not None]
    assert [where and where[0] for where in found] == [0, 1, 0, 1]
    assert len(set(found)) == 4


def test_lent_arrays_lie_beside_every_slot(layout: Layout) -> None:
    memory = memory_of(layout)
    places = Places(memory, layout)
    loans = Loans([places])
    for arrays in (loans.lend(), loans.lend()):
        assert arrays is not None
        for array in arrays:
            array[...] = 9
    slots = 2 * layout.slot_bytes
    assert not memory[:slots].any()
    assert memory[slots:].sum() == 9 * 2 * 5 + 2 * np.full(6, 9, np.float32).view(np.uint8).sum()


def test_only_all_arrays_of_one_loan_in_order_count(devices: Sequence[Places]) -> None:
    loans = Loans(devices)
    first, second = loans.lend(), loans.lend()
    assert first is not None
    assert second is not None
    assert loans.find(first) is not None
    assert loans.find([first[0], second[1]]) is None
    assert loans.find([first[0].copy(), first[1]]) is None
    assert loans.find([first[0][:], first[1]]) is None


def test_a_loan_comes_back_when_its_last_array_is_gone(layout: Layout) -> None:
    loans = Loans([Places(memory_of(layout), layout)])
    kept, dropped = loans.lend(), loans.lend()
    assert kept is not None
    assert dropped is not None
    where = loans.find(dropped)
    last = dropped[1]
    del dropped
    assert loans.lend() is None, "one array of it is still in use"
    del last
    again = loans.lend()
    assert again is not None
    assert loans.find(again) == where
    assert loans.find(kept) != where


def test_a_view_keeps_a_loan(layout: Layout) -> None:
    loans = Loans([Places(memory_of(layout), layout)])
    arrays, other = loans.lend(), loans.lend()
    assert arrays is not None
    assert other is not None
    row = arrays[0].reshape(-1)[:3]
    del arrays
    gc.collect()
    assert loans.lend() is None, "somebody could still write there"
    del row
    assert loans.lend() is not None


def test_workers_by_default_and_by_number() -> None:
    assert checked_workers(None) == 2
    assert checked_workers(1024) == 1024


@pytest.mark.parametrize("number", [0, -1, 1025])
def test_workers_out_of_range(number: int) -> None:
    with pytest.raises(ValueError, match=f"worker_num: expected 1 to 1024, found {number}$"):
        checked_workers(number)


@pytest.mark.parametrize("number", [True, 2.0, "2"])
def test_workers_must_be_an_int(number: Any) -> None:
    with pytest.raises(
        TypeError, match=f"worker_num: expected an int, found {type(number).__name__}"
    ):
        checked_workers(number)
