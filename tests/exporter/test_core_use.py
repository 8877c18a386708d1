"""Sums of performance counters, whatever cards and brokers do meanwhile."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from furiosa.common.names import DeviceFile
from furiosa.common.views import Architecture, CardTexts, Origin
from furiosa.exporter.core_use import CoreUse, CoreUses
from furiosa.sysfs import Card

SECOND = 10**9
FILES = tuple(map(DeviceFile.parse, ("npu0", "npu0pe0", "npu0pe1", "npu0pe0-1")))
CARD = Card(
    0, Architecture.WARBOY, Origin.EMULATED, "U", "S", "1", "1", "0000:3b:00.0", "1:0", -1, FILES,
    (0, 1), 0,
)  # fmt: skip


def texts(at_ns: int, **counts: tuple[int, int]) -> CardTexts:
    """Cycles and cycles of tasks, by device file; _ stands for -."""
    return CardTexts(
        at_ns,
        {
            name.replace("_", "-"): (
                f"TaskExecutionTime: {task % 2**32:#x}\nTensorExecutionTime: 0x0\n"
                f"CycleCount: {cycle % 2**32:#x}\nCycleCountHigh: {cycle >> 32:#x}\n"
            )
            for name, (cycle, task) in counts.items()
        },
        {},
    )


def test_what_was_there_before_is_not_counted_and_what_comes_is() -> None:
    uses = CoreUses()
    uses.feed(CARD, texts(5 * SECOND, npu0pe0=(5 * SECOND, 3 * SECOND)))
    uses.take(CARD, 5 * SECOND)
    uses.feed(CARD, texts(6 * SECOND, npu0pe0=(6 * SECOND, 3 * SECOND + SECOND // 4)))
    found = uses.take(CARD, 6 * SECOND)
    assert found == {0: CoreUse(SECOND, SECOND // 4, 0.25), 1: CoreUse(0, 0, 0.0)}


def test_before_there_is_a_time_there_is_no_utilization() -> None:
    assert CoreUses().take(CARD, SECOND)[0] == CoreUse(0, 0, None)


def test_utilization_is_of_all_the_time_also_when_the_core_was_in_use_for_a_part_of_it() -> None:
    uses = CoreUses()
    uses.take(CARD, 0)
    uses.feed(CARD, texts(1 * SECOND, npu0pe1=(0, 0)))
    uses.feed(CARD, texts(2 * SECOND, npu0pe1=(SECOND, SECOND)))
    uses.feed(CARD, texts(3 * SECOND))
    assert uses.take(CARD, 4 * SECOND)[1] == CoreUse(SECOND, SECOND, 0.25)
    assert uses.take(CARD, 5 * SECOND)[1] == CoreUse(SECOND, SECOND, 0.0)


def test_a_fused_pair_counts_for_both_cores_and_files_that_overlap_count_once() -> None:
    uses = CoreUses()
    uses.take(CARD, 0)
    uses.feed(CARD, texts(0, npu0pe0_1=(0, 0), npu0=(0, 0), npu0pe0=(0, 0)))
    now = texts(SECOND, npu0pe0_1=(SECOND, 600), npu0=(SECOND, 600), npu0pe0=(SECOND, 500))
    uses.feed(CARD, now)
    found = uses.take(CARD, SECOND)
    assert found[0] == found[1] == CoreUse(SECOND, 600, 600 / SECOND)


def test_a_counter_that_wraps_goes_on() -> None:
    uses = CoreUses()
    uses.feed(CARD, texts(0, npu0pe0=(2**32 - 10, 2**32 - 10)))
    uses.feed(CARD, texts(SECOND, npu0pe0=(2**32 - 10 + SECOND, 2**32 - 10 + SECOND)))
    assert uses.take(CARD, SECOND)[0].task_cycles == SECOND


def test_another_card_in_the_same_place_begins_at_0() -> None:
    uses = CoreUses()
    uses.feed(CARD, texts(0, npu0pe0=(0, 0)))
    uses.feed(CARD, texts(SECOND, npu0pe0=(SECOND, SECOND)))
    assert uses.take(replace(CARD, uuid="V"), SECOND)[0] == CoreUse(0, 0, None)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("npu0pe0", "npu0pe1", "npu0pe0_1", "npu0")),
            st.integers(0, 3 * SECOND),  # elapsed; clocks of a new broker may also stand still
            st.integers(0, 2**64 - 1),
            st.integers(0, 2**32 - 1),
        ),
        max_size=12,
    )
)
def test_sums_never_run_backwards_and_utilization_is_a_share(
    readings: list[tuple[str, int, int, int]],
) -> None:
    uses, now = CoreUses(), 0
    before = uses.take(CARD, now)
    for name, elapsed, cycle, task in readings:
        now += elapsed
        uses.feed(CARD, texts(now, **{name: (cycle, task)}))
        found = uses.take(CARD, now)
        for core in CARD.cores:
            assert found[core].cycles >= before[core].cycles
            assert found[core].task_cycles >= before[core].task_cycles
            assert found[core].task_cycles <= found[core].cycles
            assert 0 <= (found[core].utilization or 0.0) <= 1
        before = found
