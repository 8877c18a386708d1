"""Memory over time: what is staged, what spills, what is refused, and when each step runs."""

from typing import Any

import numpy as np
import pytest

from furiosa.compiler.diagnostics import OutOfDram, OutOfSram
from furiosa.compiler.gir.ir import STAGING, Buffer, Gir, Operation, Role, operations
from furiosa.compiler.gir.passes.allocate import Allocate
from furiosa.compiler.gir.timeline import Timeline, timeline
from furiosa.compiler.gir.verify import RULES
from furiosa.compiler.infra import Rule
from furiosa.compiler.ldfg.ir import Ldfg
from furiosa.compiler.lir.verify import RULES as LIR_RULES
from furiosa.compiler.lower.cdfg_to_gir import CdfgToGir
from furiosa.compiler.lower.gir_to_lir import GirToLir
from furiosa.compiler.lower.ldfg_to_cdfg import LdfgToCdfg
from furiosa.compiler.options import CompilerOptions, Search
from furiosa.enf.isa import Opcode
from furiosa.enf.limits import Limits
from furiosa.enf.program import Space
from support.npu_graphs import Plan, chain, random_ldfg

ONE, BOTH = CompilerOptions(target="warboy"), CompilerOptions()


def planned(graph: Ldfg, options: CompilerOptions = ONE, **limits: int) -> Gir:
    before = CdfgToGir().run(LdfgToCdfg().run(graph, options), options)
    return Allocate(Limits(**limits)).run(before, options).graph


def broken(graph: Any, rules: tuple[Rule, ...]) -> list[str]:
    return [message for rule in rules for message in rule(graph)]


def buffer(graph: Gir, name: str) -> Buffer:
    (found,) = (b for b in graph.buffers if b.name == name)
    return found


def spilled(graph: Gir) -> list[str]:
    return [b.name for b in graph.buffers if b.spilled]


def steps(graph: Gir) -> list[Operation]:
    return [operation for _, operation in operations(graph)]


@pytest.mark.parametrize("options", [ONE, BOTH], ids=["warboy", "warboy-2pe"])
@pytest.mark.parametrize("seed", range(40))
def test_plans_are_sound_in_any_amount_of_memory(seed: int, options: CompilerOptions) -> None:
    graph = random_ldfg(np.random.default_rng(seed))
    fitted = 0
    for capacity in (32 << 20, 65536, 8192, 3072):
        try:
            plan = planned(graph, options, sram_bytes=capacity)
        except OutOfSram:
            break
        fitted += 1
        assert broken(plan, RULES) == []
        assert plan.sram_bytes <= capacity
        lir_ = (
            GirToLir().run(plan, options) if len(plan.tasks) == 1 else None
        )  # no host graphs here
        assert lir_ is None or broken(lir_, LIR_RULES) == []
        check_timeline(timeline(plan))
    assert fitted


def check_timeline(found: Timeline) -> None:
    start = found.filling
    for timing in found.steps:
        assert timing.start == start
        assert min(*timing.pes, timing.exchange, timing.streamed, timing.prefetched, 0) == 0
        assert timing.cycles >= max(*timing.pes, timing.transfer)
        start += timing.cycles
    assert found.cycles == start


def test_constants_are_staged_one_step_ahead() -> None:
    graph = planned(chain(length=3))
    names = [f"conv2d.v{n}/constants" for n in (1, 2, 3)]
    found = [buffer(graph, name) for name in names]
    assert [(b.role, b.space) for b in found] == [(Role.WEIGHTS, Space.SRAM)] * 3
    assert [(b.first, b.last) for b in found] == [(0, 0), (0, 1), (1, 2)]


def test_operands_in_dram_pass_through_scratch() -> None:
    graph = planned(chain(length=2))
    scratch = [b for b in graph.buffers if b.role is Role.SCRATCH]
    assert [b.name for b in scratch] == ["conv2d.v1/tiles/v0", "conv2d.v2/tiles/v2"]
    assert [b.nbytes for b in scratch] == [64 * 32 * 32] * 2
    assert [operation.tiles for operation in steps(graph)] == [1, 1]


def test_tiles_of_a_large_input_have_two_halves() -> None:
    plan = Plan()
    graph = planned(plan.done(plan.table(plan.input(1, 64, 256, 256))))
    (operation,) = steps(graph)
    assert operation.tiles > 2
    rows = -(-256 // operation.tiles)
    assert [graph.buffers[n].nbytes for n in operation.scratch] == [2 * 64 * rows * 256] * 2
    (timing,) = timeline(graph).steps
    assert timing.streamed == 2 * 64 * 256 * 256


def test_windows_read_the_edges_of_tiles_twice() -> None:
    plan = Plan()
    graph = planned(plan.done(plan.conv(plan.input(1, 64, 256, 256), 1, 3)))
    (operation,) = steps(graph)
    (timing,) = timeline(graph).steps
    image, edge = 64 * 256 * 256, 2 * 64 * 256
    rows = -(-256 // operation.tiles)
    held = [graph.buffers[index].nbytes for index in operation.scratch]
    assert held == [2 * (64 * rows * 256 + edge), 2 * rows * 256]
    assert timing.streamed == image + (operation.tiles - 1) * edge + 256 * 256


def test_constants_too_large_come_in_slices() -> None:
    plan = Plan()
    graph = planned(plan.done(plan.conv(plan.input(1, 4096, 1, 1), 4096)))
    (operation,) = steps(graph)
    staging = buffer(graph, "conv2d.v1/constants")
    assert operation.slices > 1
    assert staging.nbytes <= 8 << 20
    assert (staging.first, staging.last) == (0, 0)
    (timing,) = timeline(graph).steps
    assert timing.streamed == 4096 * 4096 + 8 * 4096 + 4096 + 4096


def test_loading_a_constant_takes_no_staging_and_no_pe() -> None:
    plan = Plan()
    x = plan.input(1, 4, 8, 8)
    constant = plan.node(Opcode.LOAD, [], (1, 4, 8, 8), weights=np.ones((1, 4, 8, 8), np.int8))
    graph = planned(plan.done(plan.add(x, constant)))
    load, _ = steps(graph)
    assert (load.constants, load.scratch) == (None, ())
    timing = timeline(graph).steps[0]
    assert (timing.pes, timing.streamed) == ((0,), 256)


def waiting(flat: bool) -> tuple[Ldfg, list[str]]:
    """A value that waits for the last operation, as it is or flat, while others pass."""
    plan = Plan()
    kept = [plan.table(plan.input(1, 16, 32, 32))]
    if flat:
        kept.append(plan.reshape(kept[0], 1, 16384))
    value = plan.input(*plan.shape(kept[-1]))
    for _ in range(5):
        value = plan.table(value)
    return plan.done(plan.add(value, kept[-1])), kept


def test_what_frees_most_for_what_it_moves_spills_first() -> None:
    graph, kept = waiting(flat=False)
    assert spilled(planned(graph)) == []
    assert spilled(planned(graph, sram_bytes=40000)) == kept


def test_a_spilled_value_takes_its_reshapes_along() -> None:
    graph, kept = waiting(flat=True)
    tight = planned(graph, sram_bytes=40000)
    assert spilled(tight) == kept
    assert buffer(tight, kept[0]).offset == buffer(tight, kept[1]).offset
    assert timeline(tight).steps[1].streamed == 0


def test_a_spill_costs_transfers() -> None:
    free, tight = (planned(chain(), sram_bytes=size) for size in (32 << 20, 120_000))
    assert spilled(tight)
    assert not spilled(free)
    moved = [sum(t.streamed for t in timeline(graph).steps) for graph in (free, tight)]
    assert moved[0] == 2 * 64 * 32 * 32
    assert moved[1] > moved[0]


def test_a_search_uses_no_more_memory() -> None:
    for seed in range(20):
        graph = random_ldfg(np.random.default_rng(seed))
        searched = planned(graph, CompilerOptions(search=Search(200)))
        assert broken(searched, RULES) == []
        assert searched.sram_bytes <= planned(graph, BOTH).sram_bytes


def test_what_cannot_be_cut_small_enough_is_named() -> None:
    plan = Plan()
    graph = plan.done(plan.conv(plan.input(1, 4096, 1, 1), 1))
    with pytest.raises(OutOfSram) as caught:
        planned(graph, sram_bytes=4096)
    assert caught.value.code == 8
    assert caught.value.tensors == (
        ("constants of conv2d.v1", 4224),
        ("tiles of v0", 4096),
        ("tiles of v1", 64),
    )
    assert str(caught.value) == (
        "the tensors need 8384 bytes of SRAM and 4096 are there; largest: "
        "'constants of conv2d.v1' (4224 bytes), 'tiles of v0' (4096 bytes), 'tiles of v1' (64 bytes); "
        "lower the batch size or the input size"
    )


def test_tensors_that_do_not_fit_in_dram_are_named_and_constants_count() -> None:
    plan = Plan()
    graph = plan.done(plan.conv(plan.input(1, 64, 4, 4), 16))
    needed = 1024 + 256 + 1024 + 16 * 8
    assert planned(graph, dram_bytes=needed).dram_bytes == 1280
    with pytest.raises(OutOfDram) as caught:
        planned(graph, dram_bytes=needed - 1)
    assert (caught.value.needed, caught.value.available) == (needed, needed - 1)
    assert caught.value.tensors == (("the constants", 1152), ("v0", 1024), ("v1", 256))


def test_the_next_constants_come_while_an_operation_runs() -> None:
    graph = planned(chain(size=8, length=3))
    constants = 64 * 64 * 9 + 2 * 4 * 64
    found = timeline(graph)
    assert found.filling == -(-constants // 33)
    assert [timing.prefetched for timing in found.steps] == [constants, constants, 0]
    image = 64 * 8 * 8
    assert [timing.streamed for timing in found.steps] == [image, 0, image]
    assert found.steps[1].cycles == -(-constants // 33)  # DRAM is busier than the PE


def test_pes_work_at_once() -> None:
    one, both = (timeline(planned(chain(size=64), options)) for options in (ONE, BOTH))
    (alone,), (left, right) = one.steps[1].pes, both.steps[1].pes
    assert left == right
    assert alone / 2 <= left < alone / 1.9


def test_host_tasks_take_a_step_and_hide_the_next_constants() -> None:
    plan = Plan()
    x = plan.conv(plan.host(plan.table(plan.input(1, 8, 4, 4))), 8)
    graph = planned(plan.done(x))
    host = timeline(graph).steps[1]
    constants = 8 * 8 + 8 * 8
    assert (host.pes, host.streamed, host.prefetched) == ((0,), 0, constants)
    assert buffer(graph, "conv2d.v3/constants").first == 1


def test_staging_comes_after_the_buffers_of_the_program() -> None:
    roles = [b.role in STAGING for b in planned(chain()).buffers]
    assert roles == sorted(roles)


def test_a_plan_is_the_same_every_time() -> None:
    graph = random_ldfg(np.random.default_rng(11))
    plans = [planned(graph, BOTH, sram_bytes=8192).buffers for _ in range(2)]
    assert plans[0] == plans[1]
