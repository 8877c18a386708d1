"""Text form of a cdfg. Grammar: docs/compiler/cdfg.md."""

from collections.abc import Iterator

from furiosa.compiler import text
from furiosa.compiler.cdfg.ir import Cdfg, NpuTask, Split
from furiosa.compiler.cdfg.shares import pes_in
from furiosa.compiler.ldfg.printer import node_arrays, print_host_node, print_npu_node
from furiosa.compiler.value import Array


def print_pes(mask: int, split: Split) -> str:
    """`pe0` or `pe0+1 rows`"""
    pes = "pe" + "+".join(map(str, pes_in(mask)))
    return pes if split is Split.NONE else f"{pes} {split.value}"


def print_place(mask: int, split: Split, exchanged: int) -> str:
    return print_pes(mask, split) + (f" exchanged {exchanged}" if exchanged else "")


def arrays(graph: Cdfg) -> Iterator[Array]:
    """The arrays that the text may name by a digest."""
    yield from text.held(graph.values.values())
    for task in graph.tasks:
        nodes = [o.node for o in task.operations] if isinstance(task, NpuTask) else task.nodes
        for node in nodes:
            yield from node_arrays(node)


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
                f"    {print_place(o.pes, o.split, o.exchanged)}: "
                f"{print_npu_node(o.node, graph.values)}"
                for o in task.operations
            )
        else:
            lines += (f"    {print_host_node(node, graph.values)}" for node in task.nodes)
        lines.append("  }")
    lines += (f"  output {text.name(name)}" for name in graph.outputs)
    return "\n".join([*lines, "}"]) + "\n"
