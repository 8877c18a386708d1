"""Text form of a dfg. Grammar: docs/compiler/dfg.md."""

from collections.abc import Iterator

from furiosa.compiler import text
from furiosa.compiler.dfg.ir import Dfg, Node, Place
from furiosa.compiler.value import Array


def print_node(node: Node, graph: Dfg) -> str:
    results = ", ".join(text.declared(graph.values[name]) if name else "-" for name in node.outputs)
    place = "" if node.place is Place.ANY else f" @{node.place.value}"
    return (
        f"  {results} = {node.op}({text.names(node.inputs)})"
        f"{text.attributes(node.attributes)}{place}  {text.origin(node.name, node.sources)}"
    )


def arrays(graph: Dfg) -> Iterator[Array]:
    """The arrays that the text may name by a digest."""
    yield from text.held(graph.values.values())
    for node in graph.nodes:
        yield from text.held_by(node.attributes)


def print_dfg(graph: Dfg) -> str:
    lines = [text.heading("dfg", graph.model) + " {"]
    lines += (f"  input {text.declared(graph.values[name])}" for name in graph.inputs)
    lines += text.constants(graph.values.values())
    lines += (print_node(node, graph) for node in graph.nodes)
    lines += (f"  output {text.name(name)}" for name in graph.outputs)
    return "\n".join([*lines, "}"]) + "\n"
