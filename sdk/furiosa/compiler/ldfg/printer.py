"""Text form of an ldfg. Grammar: docs/compiler/ldfg.md."""

from collections.abc import Iterator, Mapping

from furiosa.compiler import text
from furiosa.compiler.ldfg.ir import CONSTANTS, PIXEL, HostNode, Ldfg, NpuNode, NpuSection
from furiosa.compiler.value import Array, Value
from furiosa.enf.isa import Opcode, Window

_FIELDS = ("zero0", "zero1", "zero_out", "low", "high", "axis")


def print_window(window: Window) -> str:
    """Only what differs from PIXEL."""
    parts = [
        f"{field}={'x'.join(map(str, found)) if isinstance(found, tuple) else found}"
        for field in ("kernel", "strides", "pads", "dilations", "group")
        if (found := getattr(window, field)) != getattr(PIXEL, field)
    ]
    return "".join(" " + part for part in parts)


def print_fields(node: NpuNode) -> str:
    """Zero points, clamp, window and constants, as far as the operation has them."""
    shown = [
        f" {field}={getattr(node, field)}"
        for field in _FIELDS
        if getattr(node, field) or (field in ("low", "high") and (node.low, node.high) != (0, 0))
    ]
    for field in CONSTANTS:
        data = getattr(node, field)
        if data is not None:
            shape = "x".join(map(str, data.shape))
            shown.append(f" {field}={data.dtype.name}[{shape}]{text.array(data)}")
    return "".join(shown) + print_window(node.window)


def print_opcode(opcode: Opcode) -> str:
    return opcode.name.lower()


def print_npu_node(node: NpuNode, values: Mapping[str, Value]) -> str:
    return (
        f"{text.declared(values[node.output])} = {print_opcode(node.opcode)}"
        f"({text.names(node.inputs)}){print_fields(node)}  {text.origin(node.name, node.sources)}"
    )


def print_host_node(node: HostNode, values: Mapping[str, Value]) -> str:
    results = ", ".join(text.declared(values[name]) if name else "-" for name in node.outputs)
    return (
        f"{results} = {node.op}({text.names(node.inputs)}){text.attributes(node.attributes)}"
        f"  {text.origin(node.name, node.sources)}"
    )


def print_node(node: NpuNode | HostNode, values: Mapping[str, Value]) -> str:
    if isinstance(node, NpuNode):
        return print_npu_node(node, values)
    return print_host_node(node, values)


def node_arrays(node: NpuNode | HostNode) -> Iterator[Array]:
    """The arrays that a node's text may name by a digest."""
    if isinstance(node, HostNode):
        yield from text.held_by(node.attributes)
    else:
        found = (getattr(node, field) for field in CONSTANTS)
        yield from (data for data in found if data is not None)


def arrays(graph: Ldfg) -> Iterator[Array]:
    """The arrays that the text may name by a digest."""
    yield from text.held(graph.values.values())
    for node in graph.nodes:
        yield from node_arrays(node)


def print_ldfg(graph: Ldfg) -> str:
    lines = [text.heading("ldfg", graph.model) + " {"]
    lines += (f"  input {text.declared(graph.values[name])}" for name in graph.inputs)
    lines += text.constants(graph.values.values())
    for index, section in enumerate(graph.sections):
        lines.append(f"  section {index} {'npu' if isinstance(section, NpuSection) else 'host'} {{")
        lines += (f"    {print_node(node, graph.values)}" for node in section.nodes)
        lines.append("  }")
    lines += (f"  output {text.name(name)}" for name in graph.outputs)
    return "\n".join([*lines, "}"]) + "\n"
