"""Text form of a dfg. Grammar: docs/compiler/dfg.md."""

from furiosa.compiler import text
from furiosa.compiler.dfg.ir import Dfg, Node, Place


def print_node(node: Node, graph: Dfg) -> str:
    results = ", ".join(text.declared(graph.values[name]) if name else "-" for name in node.outputs)
    place = "" if node.place is Place.ANY else f" @{node.place.value}"
    origin = f"  ; {text.sources(node.sources)}" if node.sources else ""
    return (
        f"  {results} = {node.op}({text.names(node.inputs)})"
        f"{text.attributes(node.attributes)}{place}{origin}"
    )


def print_dfg(graph: Dfg) -> str:
    lines = [text.heading("dfg", graph.model) + " {"]
    lines += (f"  input {text.declared(graph.values[name])}" for name in graph.inputs)
    lines += text.constants(graph.values.values())
    lines += (print_node(node, graph) for node in graph.nodes)
    lines += (f"  output {text.name(name)}" for name in graph.outputs)
    return "\n".join([*lines, "}"]) + "\n"
