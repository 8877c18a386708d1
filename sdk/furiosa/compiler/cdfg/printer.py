"""Text form of a cdfg. Grammar: docs/compiler/cdfg.md."""

from furiosa.compiler import text
from furiosa.compiler.cdfg.ir import Cdfg, NpuTask
from furiosa.compiler.ldfg.printer import print_host_node, print_npu_node


def print_pes(mask: int) -> str:
    return "pe" + "+".join(str(pe) for pe in range(mask.bit_length()) if mask >> pe & 1)


def print_cdfg(graph: Cdfg) -> str:
    lines = [f"{text.heading('cdfg', graph.model)} target {graph.target} {{"]
    lines += (f"  input {text.declared(graph.values[name])}" for name in graph.inputs)
    lines += text.constants(graph.values.values())
    for index, task in enumerate(graph.tasks):
        kind = "npu" if isinstance(task, NpuTask) else "host"
        lines.append(
            f"  task {index} {kind} ({text.names(task.inputs)}) -> ({text.names(task.outputs)}) {{"
        )
        if isinstance(task, NpuTask):
            lines += (
                f"    {print_pes(operation.pes)}: {print_npu_node(operation.node, graph.values)}"
                for operation in task.operations
            )
        else:
            lines += (f"    {print_host_node(node, graph.values)}" for node in task.nodes)
        lines.append("  }")
    lines += (f"  output {text.name(name)}" for name in graph.outputs)
    return "\n".join([*lines, "}"]) + "\n"
