"""Who does what: PEs and splits of operations, and what PEs fetch from each other."""

from itertools import product

import numpy as np
import pytest

from furiosa.compiler.cdfg.ir import Cdfg, NpuTask, Operation, Split
from furiosa.compiler.cdfg.placement import place
from furiosa.compiler.cdfg.shares import cycles_by_pe, exchanges, is_splittable, reading, shares
from furiosa.compiler.cdfg.verify import RULES
from furiosa.compiler.cost import link_cycles
from furiosa.compiler.ldfg.ir import Ldfg
from furiosa.compiler.lower.ldfg_to_cdfg import LdfgToCdfg
from furiosa.compiler.options import CompilerOptions
from support.npu_graphs import Plan, chain, random_ldfg


def lowered(graph: Ldfg, target: str = "warboy-2pe") -> Cdfg:
    return LdfgToCdfg().run(graph, CompilerOptions(target=target))


def operations(graph: Cdfg) -> list[Operation]:
    return [o for task in graph.tasks if isinstance(task, NpuTask) for o in task.operations]


def splits(graph: Cdfg) -> list[Split]:
    return [operation.split for operation in operations(graph)]


def spent(graph: Cdfg) -> int:
    """Cycles of the busiest PE and of fetching, without transfers from DRAM."""
    total = 0
    for operation, nbytes in zip(operations(graph), exchanges(graph), strict=True):
        node = operation.node
        sources = [graph.values[name] for name in node.inputs]
        result = graph.values[node.output]
        made = shares(result.shape, operation.pes, operation.split)
        wanted = reading(node, [source.shape for source in sources], result.shape, made)
        total += max(cycles_by_pe(node, sources, result, made, wanted).values())
        total += link_cycles(nbytes)
    return total


def placed(graph: Cdfg, choices: tuple[Split, ...]) -> Cdfg:
    given = iter(choices)

    def moved(operation: Operation) -> Operation:
        split = next(given)
        return Operation(operation.node, 1 if split is Split.NONE else 3, split)

    tasks = tuple(
        NpuTask(tuple(map(moved, task.operations)), task.inputs, task.outputs)
        if isinstance(task, NpuTask)
        else task
        for task in graph.tasks
    )
    return Cdfg(
        graph.model, graph.target, graph.pes, graph.inputs, graph.outputs, tasks, graph.values
    )


def test_one_pe_does_everything_where_there_is_one() -> None:
    assert {(o.pes, o.split) for o in operations(lowered(chain(), "warboy"))} == {(1, Split.NONE)}


def test_large_images_are_split_by_rows_and_only_edges_are_fetched() -> None:
    graph = lowered(chain(size=64, channels=32))
    assert set(splits(graph)) == {Split.ROWS}
    edge = 2 * 32 * 64  # a row of 32 channels from each side
    assert [o.exchanged for o in operations(graph)] == [0, edge, edge, edge]  # the first: from DRAM


def test_many_channels_of_a_small_image_are_split_by_channels() -> None:
    plan = Plan()
    value = plan.conv(plan.input(1, 512, 1, 1), 512)
    assert splits(lowered(plan.done(value))) == [Split.CHANNELS]


def test_images_of_a_batch_are_split_and_nothing_is_fetched() -> None:
    plan = Plan()
    value = plan.input(2, 16, 8, 8)
    for _ in range(3):
        value = plan.conv(value, 16, 3)
    graph = lowered(plan.done(value))
    assert set(splits(graph)) == {Split.IMAGES}
    assert [o.exchanged for o in operations(graph)] == [0, 0, 0]


def test_an_operation_too_small_to_share_stays_on_one_pe() -> None:
    plan = Plan()
    graph = lowered(plan.done(plan.table(plan.input(1, 4, 2, 2))))
    assert [(o.pes, o.split) for o in operations(graph)] == [(1, Split.NONE)]


def test_a_residual_block_is_split_alike_all_through() -> None:
    plan = Plan()
    x = plan.conv(plan.input(1, 32, 64, 64), 32, 3)
    graph = lowered(plan.done(plan.add(plan.conv(plan.conv(x, 32, 1), 32, 1), x)))
    assert set(splits(graph)) == {Split.ROWS}


def test_the_last_share_may_be_smaller_but_not_empty() -> None:
    assert [box[1] for box in shares((1, 5), 3, Split.CHANNELS).values()] == [(0, 3), (3, 2)]
    assert is_splittable((1, 2), Split.CHANNELS, 2)
    assert not is_splittable((1, 1), Split.CHANNELS, 2)
    assert not is_splittable((1, 4), Split.CHANNELS, 3)  # 2, 2 and none
    assert not is_splittable((4,), Split.ROWS, 2)


@pytest.mark.parametrize("size", [4, 8, 16, 48])
def test_no_other_placement_of_a_chain_is_cheaper(size: int) -> None:
    graph = lowered(chain(size, channels=24, length=4))
    choices = (Split.NONE, Split.CHANNELS, Split.ROWS)
    every = (spent(placed(graph, given)) for given in product(choices, repeat=4))
    assert spent(graph) == min(every)


@pytest.mark.parametrize("seed", range(60))
def test_two_pes_are_never_slower_than_one(seed: int) -> None:
    graph = random_ldfg(np.random.default_rng(seed))
    both, one = lowered(graph), lowered(graph, "warboy")
    assert [message for rule in RULES for message in rule(both)] == []
    assert spent(both) <= spent(one)


def test_values_in_dram_are_fetched_from_no_pe() -> None:
    plan = Plan()
    x = plan.conv(plan.input(1, 8, 16, 16), 8, 3)
    graph = lowered(plan.done(plan.conv(plan.host(x), 8, 3)))
    assert [o.exchanged for o in operations(graph)] == [0, 0]


def test_nothing_is_placed_of_nothing() -> None:
    assert place([], {}, frozenset(), 2) == []
