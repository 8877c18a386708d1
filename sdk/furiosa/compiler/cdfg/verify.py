"""Rules of a cdfg. Each yields one message for each violation, naming the task and what was found."""

from collections.abc import Iterator
from typing import Final

from furiosa.compiler.cdfg.ir import Cdfg, NpuTask, Operation, Split, reads, writes
from furiosa.compiler.cdfg.shares import exchanges, is_splittable
from furiosa.compiler.infra import Rule


def neighbouring_tasks_differ_in_place(graph: Cdfg) -> Iterator[str]:
    for index, (left, right) in enumerate(zip(graph.tasks, graph.tasks[1:], strict=False)):
        if type(left) is type(right):
            yield f"tasks {index} and {index + 1} are both of {type(left).__name__}"


def task_inputs_are_what_it_reads_from_outside(graph: Cdfg) -> Iterator[str]:
    for index, task in enumerate(graph.tasks):
        own = set(writes(task))
        found = {n for n in reads(task) if n not in own and graph.values[n].data is None}
        if found != set(task.inputs):
            yield f"task {index} reads {sorted(found)}, declares {sorted(task.inputs)}"


def task_inputs_are_there_in_time(graph: Cdfg) -> Iterator[str]:
    there = set(graph.inputs)
    for index, task in enumerate(graph.tasks):
        for name in task.inputs:
            if name not in there:
                yield f"task {index} reads {name!r} before any task made it"
        there.update(task.outputs)
    for name in graph.outputs:
        if name not in there:
            yield f"no task makes the output {name!r}"


def task_outputs_are_made_by_it(graph: Cdfg) -> Iterator[str]:
    for index, task in enumerate(graph.tasks):
        for name in task.outputs:
            if name not in writes(task):
                yield f"task {index} declares {name!r}, which it does not make"


def operations_have_pes_of_the_target(graph: Cdfg) -> Iterator[str]:
    for operation in _operations(graph):
        if not 0 < operation.pes < 1 << graph.pes:
            yield (
                f"{operation.node.name} is placed on PE mask {operation.pes:#b}, "
                f"{graph.target} has {graph.pes} PEs"
            )


def splits_are_among_the_pes(graph: Cdfg) -> Iterator[str]:
    for operation in _operations(graph):
        shape = graph.values[operation.node.output].shape
        if found := wrong_split(operation.pes, operation.split, shape):
            yield f"{operation.node.name} {found}"


def wrong_split(pes: int, split: Split, shape: tuple[int, ...]) -> str | None:
    """What is wrong with sharing a result of this shape so, if anything is."""
    several = pes.bit_count() > 1
    if several != (split is not Split.NONE):
        return f"is on PE mask {pes:#b} and split by {split.value}"
    if several and not is_splittable(shape, split, pes.bit_count()):
        return f"is split by {split.value}, of which {list(shape)} has none for each PE"
    return None


def exchanges_follow_from_the_splits(graph: Cdfg) -> Iterator[str]:
    for operation, bytes_ in zip(_operations(graph), exchanges(graph), strict=True):
        if operation.exchanged != bytes_:
            yield f"{operation.node.name} exchanges {operation.exchanged} bytes, needs {bytes_}"


def _operations(graph: Cdfg) -> Iterator[Operation]:
    for task in graph.tasks:
        if isinstance(task, NpuTask):
            yield from task.operations


RULES: Final[tuple[Rule, ...]] = (
    neighbouring_tasks_differ_in_place,
    task_inputs_are_what_it_reads_from_outside,
    task_inputs_are_there_in_time,
    task_outputs_are_made_by_it,
    operations_have_pes_of_the_target,
    splits_are_among_the_pes,
    exchanges_follow_from_the_splits,
)
