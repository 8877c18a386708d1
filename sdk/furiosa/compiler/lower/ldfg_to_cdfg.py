"""ldfg to cdfg: sections become tasks, operations get PEs."""

from dataclasses import replace
from typing import ClassVar

from furiosa.compiler.cdfg.ir import Cdfg, HostTask, NpuTask, Operation, Task, reads, writes
from furiosa.compiler.cdfg.placement import place
from furiosa.compiler.infra import Lowering
from furiosa.compiler.ldfg.ir import Ldfg, NpuSection
from furiosa.compiler.options import CompilerOptions


class LdfgToCdfg(Lowering[Ldfg, Cdfg]):
    """Every operation goes where the whole costs least: on PE 0, or on all PEs in one of the splits."""

    name: ClassVar[str] = "lower-ldfg-to-cdfg"

    def run(self, graph: Ldfg, options: CompilerOptions) -> Cdfg:
        bare = Cdfg(
            graph.model,
            options.target,
            options.pes,
            graph.inputs,
            graph.outputs,
            tuple(_tasks(graph)),
            graph.values,
        )
        nodes = [node for s in graph.sections if isinstance(s, NpuSection) for node in s.nodes]
        placed = iter(place(nodes, graph.values, bare.shared, options.pes))
        tasks = (
            replace(task, operations=tuple(next(placed) for _ in task.operations))
            if isinstance(task, NpuTask)
            else task
            for task in bare.tasks
        )
        return replace(bare, tasks=tuple(tasks))


def _tasks(graph: Ldfg) -> list[Task]:
    """With everything on PE 0."""
    bare: list[Task] = [
        NpuTask(tuple(Operation(node, 1) for node in section.nodes), (), ())
        if isinstance(section, NpuSection)
        else HostTask(section.nodes, (), ())
        for section in graph.sections
    ]
    tasks: list[Task] = []
    wanted = dict.fromkeys(graph.outputs)  # by the caller and by later tasks; a dict keeps order
    for task in reversed(bare):
        own = dict.fromkeys(writes(task))
        outputs = tuple(name for name in own if name in wanted)
        inputs = tuple(
            name
            for name in dict.fromkeys(reads(task))
            if name not in own and graph.values[name].data is None
        )
        wanted.update(dict.fromkeys(inputs))
        tasks.append(replace(task, inputs=inputs, outputs=outputs))
    return tasks[::-1]
