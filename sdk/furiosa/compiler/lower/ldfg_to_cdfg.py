"""ldfg to cdfg: sections become tasks, operations get PEs."""

from typing import ClassVar

from furiosa.compiler.cdfg.ir import Cdfg, HostTask, NpuTask, Operation, Task, reads, writes
from furiosa.compiler.infra import Lowering
from furiosa.compiler.ldfg.ir import Ldfg, NpuNode, NpuSection
from furiosa.compiler.options import CompilerOptions
from furiosa.enf.isa import Opcode

_SHARED = (Opcode.CONV2D, Opcode.DEPTHWISE_CONV2D)  # split by output channels


class LdfgToCdfg(Lowering[Ldfg, Cdfg]):
    """PEs share each convolution that has an output channel for each of them; PE 0 does the rest."""

    name: ClassVar[str] = "lower-ldfg-to-cdfg"

    def run(self, graph: Ldfg, options: CompilerOptions) -> Cdfg:
        bare: list[Task] = [
            NpuTask(tuple(_operation(node, graph, options.pes) for node in section.nodes), (), ())
            if isinstance(section, NpuSection)
            else HostTask(section.nodes, (), ())
            for section in graph.sections
        ]
        tasks: list[Task] = []
        wanted = dict.fromkeys(
            graph.outputs
        )  # by the caller and by later tasks; a dict keeps order
        for task in reversed(bare):
            own = dict.fromkeys(writes(task))
            outputs = tuple(name for name in own if name in wanted)
            inputs = tuple(
                name
                for name in dict.fromkeys(reads(task))
                if name not in own and graph.values[name].data is None
            )
            wanted.update(dict.fromkeys(inputs))
            if isinstance(task, NpuTask):
                tasks.append(NpuTask(task.operations, inputs, outputs))
            else:
                tasks.append(HostTask(task.nodes, inputs, outputs))
        return Cdfg(
            graph.model,
            options.target,
            options.pes,
            graph.inputs,
            graph.outputs,
            tuple(reversed(tasks)),
            graph.values,
        )


def _operation(node: NpuNode, graph: Ldfg, pes: int) -> Operation:
    shared = node.opcode in _SHARED and graph.values[node.output].shape[1] >= pes
    return Operation(node, (1 << pes) - 1 if shared else 1)
