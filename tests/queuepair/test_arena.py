import pytest
from hypothesis import given
from hypothesis import strategies as st

from furiosa.queuepair import Slots, tensor_offsets


def test_tensors_follow_one_another_on_cache_lines() -> None:
    assert tensor_offsets([1, 64, 65, 10]) == ((0, 64, 128, 256), 320)
    assert tensor_offsets([]) == ((), 0)


@given(st.lists(st.integers(0, 1 << 40)))
def test_tensors_are_aligned_and_never_overlap(sizes: list[int]) -> None:
    offsets, total = tensor_offsets(sizes)
    assert all(offset % 64 == 0 for offset in (*offsets, total))
    ends = [offset + size for offset, size in zip(offsets, sizes, strict=True)]
    assert all(end <= start for end, start in zip(ends, (*offsets, total)[1:], strict=True))


def test_slots_are_distinct_until_none_is_left() -> None:
    slots = Slots(128, 3)
    assert [slots.take() for _ in range(4)] == [0, 128, 256, None]


def test_the_slot_given_back_last_is_taken_first() -> None:
    slots = Slots(64, 3)
    first, second = slots.take(), slots.take()
    assert first is not None
    assert second is not None
    slots.give(second)
    slots.give(first)
    assert slots.take() == first


@pytest.mark.parametrize("offset", [0, 64, 32, -64, 1 << 40])
def test_only_a_taken_slot_can_be_given(offset: int) -> None:
    slots = Slots(64, 2)
    with pytest.raises(ValueError, match=f"no slot at {offset}"):
        slots.give(offset)


@pytest.mark.parametrize("size", [0, -64, 63, 100])
def test_slots_keep_tensors_aligned(size: int) -> None:
    with pytest.raises(ValueError, match=f"slot of {size} bytes"):
        Slots(size, 1)
