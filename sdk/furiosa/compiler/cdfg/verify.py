"""Rules of a cdfg. Each yields one message for each violation, naming the task and what was found."""

from collections.abc import Iterator
from typing import Final

from furiosa.compiler.cdfg.ir import Cdfg, NpuTask, reads, writes
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
    for task in graph.tasks:
        if isinstance(task, NpuTask):
            for operation in task.operations:
                if not 0 < operation.pes < 1 << graph.pes:
                    yield (
                        f"{operation.node.name} is placed on PE mask {operation.pes:#b}, "
                        f"{graph.target} has {graph.pes} PEs"
                    )


RULES: Final[tuple[Rule, ...]] = (
    neighbouring_tasks_differ_in_place,
    task_inputs_are_what_it_reads_from_outside,
    task_inputs_are_there_in_time,
    task_outputs_are_made_by_it,
    operations_have_pes_of_the_target,
)
