"""When what was measured, in few slots."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from furiosa.runtime.bench import Slot, Timeline
from furiosa.runtime.bench.timeline import FIRST_WIDTH, SLOTS

TIMES = st.lists(st.integers(0, 10**12), min_size=1, max_size=50)


def of(*times: int) -> Timeline:
    made = Timeline()
    for at in times:
        made.record(at, 1000)
    return made


def counts(slots: list[Slot]) -> list[tuple[int, int, int]]:
    return [(slot.start, slot.end, slot.latencies.count) for slot in slots]


@given(TIMES)
def test_slots_follow_each_other_and_lose_nothing(times: list[int]) -> None:
    slots = list(of(*times).slots(max(times) + 1))
    assert 1 <= len(slots) <= SLOTS
    assert slots[0].start == 0
    assert slots[-1].end == max(times) + 1
    assert all(one.end == other.start for one, other in pairwise(slots))
    assert sum(slot.latencies.count for slot in slots) == len(times)
    for slot in slots[:-1]:
        assert slot.latencies.count == sum(slot.start <= at < slot.end for at in times)


@given(TIMES, TIMES)
def test_merged_is_as_if_recorded_in_one(first: list[int], second: list[int]) -> None:
    merged, end = of(*first), max(first + second) + 1
    merged.merge(of(*second))
    assert counts(list(merged.slots(end))) == counts(list(of(*first, *second).slots(end)))


def test_a_short_rest_belongs_to_the_last_slot() -> None:
    width = FIRST_WIDTH
    timeline = of(0, width, 2 * width + 1)
    assert counts(list(timeline.slots(2 * width + width // 4))) == [
        (0, width, 1),
        (width, 2 * width + width // 4, 2),
    ]
    assert len(list(timeline.slots(3 * width))) == 3
