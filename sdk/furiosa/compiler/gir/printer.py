"""Text form of a gir. Grammar: docs/compiler/gir.md."""

from furiosa.compiler import text
from furiosa.compiler.cdfg.printer import print_pes
from furiosa.compiler.gir.ir import Buffer, Gir, NpuTask, Operation
from furiosa.compiler.ldfg.printer import print_fields, print_host_node, print_opcode


def _buffer(index: int, buffer: Buffer) -> str:
    shape = ",".join(map(str, buffer.shape))
    kind = f"{buffer.dtype.value}[{shape}]"
    if buffer.quantization is not None:
        kind += " " + text.quantization(buffer.quantization)
    place = buffer.space.value if buffer.offset is None else f"{buffer.space.value}+{buffer.offset}"
    alias = "" if buffer.alias is None else f" in place of b{buffer.alias}"
    return (
        f"  buffer b{index} {text.name(buffer.name)}: {kind} {place} {buffer.nbytes} bytes "
        f"steps {buffer.first}..{buffer.last}{alias}"
    )


def _refs(indices: tuple[int, ...]) -> str:
    return ", ".join(f"b{index}" for index in indices)


def _operation(operation: Operation) -> str:
    node = operation.node
    return (
        f"    {print_pes(operation.pes)}: b{operation.out} = {print_opcode(node.opcode)}"
        f"({_refs(operation.sources)}){print_fields(node)}  ; {text.sources(node.sources)}"
    )


def print_gir(graph: Gir) -> str:
    sizes = f"sram {graph.sram_bytes} dram {graph.dram_bytes}"
    lines = [f"{text.heading('gir', graph.model)} target {graph.target} {sizes} {{"]
    lines += (_buffer(index, buffer) for index, buffer in enumerate(graph.buffers))
    lines += text.constants(graph.values.values())
    lines.append(f"  inputs ({_refs(graph.inputs)})")
    for index, task in enumerate(graph.tasks):
        if isinstance(task, NpuTask):
            lines.append(f"  task {index} npu {{")
            lines += map(_operation, task.operations)
        else:
            lines.append(
                f"  task {index} host ({_refs(task.inputs)}) -> ({_refs(task.outputs)}) {{"
            )
            lines += (f"    {print_host_node(node, graph.values)}" for node in task.nodes)
        lines.append("  }")
    lines.append(f"  outputs ({_refs(graph.outputs)})")
    return "\n".join([*lines, "}"]) + "\n"
