"""Text form of a gir. Grammar: docs/compiler/gir.md."""

from collections.abc import Iterable, Iterator

from furiosa.compiler import text
from furiosa.compiler.cdfg.printer import print_place
from furiosa.compiler.gir.ir import Buffer, Gir, NpuTask, Operation
from furiosa.compiler.gir.timeline import Timing, timeline
from furiosa.compiler.ldfg.printer import (
    node_arrays,
    print_fields,
    print_host_node,
    print_opcode,
)
from furiosa.compiler.value import Array, Value


def _buffer(index: int, buffer: Buffer) -> str:
    shape = ",".join(map(str, buffer.shape))
    kind = f"{buffer.dtype.value}[{shape}]"
    if buffer.quantization is not None:
        kind += " " + text.quantization(buffer.quantization)
    place = buffer.space.value if buffer.offset is None else f"{buffer.space.value}+{buffer.offset}"
    spilled = " spilled" if buffer.spilled else ""
    alias = "" if buffer.alias is None else f" in place of b{buffer.alias}"
    return (
        f"  buffer b{index} {text.name(buffer.name)}: {kind} {buffer.role.value} {place} "
        f"{buffer.nbytes} bytes steps {buffer.first}..{buffer.last}{spilled}{alias}"
    )


def _refs(indices: Iterable[int]) -> str:
    return ", ".join(f"b{index}" for index in indices)


def _staging(operation: Operation) -> str:
    parts = []
    if operation.constants is not None:
        parts.append(f" constants b{operation.constants} slices {operation.slices}")
    if operation.scratch:
        parts.append(
            f" tiles {operation.tiles} axis {operation.axis} scratch ({_refs(operation.scratch)})"
        )
    return "".join(parts)


def _timing(timing: Timing | None) -> str:
    if timing is None:
        return ""
    pes = " ".join(f"pe{pe} {cycles}" for pe, cycles in enumerate(timing.pes))
    return (
        f"  ; at {timing.start}: {timing.cycles} cycles, {pes}, exchange {timing.exchange}, "
        f"transfer {timing.transfer}"
    )


def _operation(operation: Operation) -> str:
    node = operation.node
    place = print_place(operation.pes, operation.split, operation.exchanged)
    return (
        f"    {place}: b{operation.out} = {print_opcode(node.opcode)}"
        f"({_refs(operation.sources)}){print_fields(node)}{_staging(operation)}"
        f"  {text.origin(node.name, node.sources)}"
    )


def arrays(graph: Gir) -> Iterator[Array]:
    """The arrays that the text may name by a digest."""
    yield from text.held([*map(_value, graph.buffers), *graph.values.values()])
    for task in graph.tasks:
        nodes = [o.node for o in task.operations] if isinstance(task, NpuTask) else task.nodes
        for node in nodes:
            yield from node_arrays(node)


def _value(buffer: Buffer) -> Value:
    return Value(buffer.name, buffer.dtype, buffer.shape, buffer.quantization)


def print_gir(graph: Gir) -> str:
    """What follows a second ";" in a line is derived, and there once the graph is allocated."""
    times: dict[int, Timing] = {}
    sizes = (
        f"sram {graph.sram_bytes} of {graph.sram_capacity} "
        f"dram {graph.dram_bytes} of {graph.dram_capacity}"
    )
    lines = [f"{text.heading('gir', graph.model)} target {graph.target} {sizes} {{"]
    if graph.is_allocated:
        found = timeline(graph)
        times = dict(enumerate(found.steps))
        lines[0] += f"  ; {found.cycles} cycles"
    lines += (_buffer(index, buffer) for index, buffer in enumerate(graph.buffers))
    lines += text.constants(graph.values.values())
    lines.append(f"  inputs ({_refs(graph.inputs)})")
    step = 0
    for index, task in enumerate(graph.tasks):
        if isinstance(task, NpuTask):
            lines.append(f"  task {index} npu {{")
            for operation in task.operations:
                lines.append(_operation(operation) + _timing(times.get(step)))
                step += 1
        else:
            refs = f"({_refs(task.inputs)}) -> ({_refs(task.outputs)})"
            lines.append(f"  task {index} host {refs} {{")
            lines += (f"    {print_host_node(node, graph.values)}" for node in task.nodes)
            step += 1
        lines.append("  }")
    lines.append(f"  outputs ({_refs(graph.outputs)})")
    return "\n".join([*lines, "}"]) + "\n"
