"""An ldfg in the DOT language: operators top-down, NPU and host sections as clusters.

Values are edges with type and shape; constants are not drawn, their shapes are in the nodes.
"""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Final

from furiosa.compiler.ldfg.ir import HostNode, Ldfg, NpuNode, NpuSection
from furiosa.compiler.reports.names import printable, shortened
from furiosa.compiler.value import Value
from furiosa.enf.isa import Opcode

_SHOWN: Final = 44  # characters of a name in the drawing; the tooltip has all of it
_DEFAULTS: Final = (
    '  graph [rankdir="TB", fontname="Helvetica", fontsize="14", labelloc="t", nodesep=0.3, ranksep=0.35]',
    '  node [shape="box", style="rounded,filled", fontname="Helvetica", fontsize="12", margin="0.16,0.08"]',
    '  edge [fontname="Helvetica", fontsize="10", color="#6b7280", fontcolor="#374151", arrowsize="0.7"]',
)
_CONSTANTS: Final = ("weights", "parameters")  # what else there is has their channels
_PORT: Final = {"shape": "oval", "style": "filled", "fillcolor": "#f3f4f6", "color": "#4b5563"}
_GEOMETRY: Final = {  # attributes of ONNX, and the words before them
    "kernel_shape": " ",
    "strides": " stride ",
    "dilations": " dilation ",
    "group": " group ",
}
_NPU: Final = {"fillcolor": "#dbeafe", "color": "#2563eb"}
_HOST: Final = {"fillcolor": "#ffedd5", "color": "#c2410c"}


def dot_graph(graph: Ldfg) -> str:
    """As `dot` reads it. Nodes are n0, n1, .. in order of execution, ports in0, .. and out0, ..;
    clusters have the numbers of the sections."""
    title = ", ".join(filter(None, (graph.model.name, f"batch {graph.model.batch}")))
    lines = ["digraph ldfg {", *_DEFAULTS, f"  label={_quoted(title)}"]
    makers: dict[str, str] = {}  # of each value, the node it comes from
    edges: list[str] = []
    for index, name in enumerate(graph.inputs):
        makers[name] = f"in{index}"
        lines.append(f"  in{index}{_port('input', graph.values[name])}")
    count = 0
    for number, section in enumerate(graph.sections):
        is_npu = isinstance(section, NpuSection)
        lines.append(f"  subgraph cluster_{number} {{")
        lines.append(_frame(number, len(section.nodes), is_npu))
        for node in section.nodes:
            lines.append(f"    n{count}{_operator(node, graph.values)}")
            edges += (
                f"  {makers[name]} -> n{count}{_value(graph.values[name])}"
                for name in node.reads
                if name in makers
            )
            makers.update(dict.fromkeys(node.writes, f"n{count}"))
            count += 1
        lines.append("  }")
    for index, name in enumerate(graph.outputs):
        lines.append(f"  out{index}{_port('output', graph.values[name])}")
        edges.append(f"  {makers[name]} -> out{index}{_value(graph.values[name])}")
    return "\n".join([*lines, *edges, "}"]) + "\n"


def _frame(number: int, count: int, is_npu: bool) -> str:
    place, colors = ("NPU", _NPU) if is_npu else ("CPU", _HOST)
    operators = f"{count} operator{'s' * (count != 1)}"
    fill = "#f8fbff" if is_npu else "#fffaf5"
    return (
        f'    label="{place}: section {number}, {operators}"; labeljust="l"; style="rounded,filled"; '
        f'color="{colors["color"]}"; fontcolor="{colors["color"]}"; fillcolor="{fill}"; margin="14"'
    )


def _port(kind: str, value: Value) -> str:
    label = _label(f"{kind} {shortened(value.name, _SHOWN)}", (_type(value),))
    return _attributes({"label": label, "tooltip": _quoted(value.name)}, _PORT)


def _operator(node: NpuNode | HostNode, values: Mapping[str, Value]) -> str:
    if isinstance(node, NpuNode):
        head, colors = node.opcode.name.lower(), _NPU
    else:
        head, colors = node.op, _HOST
    named = "+".join(dict.fromkeys(node.sources)) or node.name
    below = (shortened(named, _SHOWN), *_constants(node, values))
    return _attributes(
        {"label": _label(head + _geometry(node), below), "tooltip": _quoted(named)}, colors
    )


def _geometry(node: NpuNode | HostNode) -> str:
    """` 3x3 stride 2x2`: what is not as of a single element. Depthwise says how many groups it has."""
    found: Mapping[str, object]
    if isinstance(node, NpuNode):
        window = node.window
        depthwise = node.opcode is Opcode.DEPTHWISE_CONV2D
        found = {
            "kernel_shape": window.kernel,
            "strides": window.strides,
            "dilations": window.dilations,
            "group": (1 if depthwise else window.group,),
        }
    else:
        found = {**node.attributes, "group": (node.attributes.get("group", 1),)}
    words = ""
    for attribute, word in _GEOMETRY.items():
        sizes = found.get(attribute)
        if isinstance(sizes, tuple) and any(size != 1 for size in sizes):
            words += word + "x".join(map(str, sizes))
    return words


def _constants(node: NpuNode | HostNode, values: Mapping[str, Value]) -> Iterator[str]:
    if isinstance(node, NpuNode):
        for field in _CONSTANTS:
            data = getattr(node, field)
            if data is not None:
                yield f"{field} {data.dtype.name}{_shape(data.shape)}"
    else:
        for name in node.reads:
            if values[name].data is not None:
                yield f"constant {_type(values[name])}"


def _value(value: Value) -> str:
    beside = _quoted(f" {_type(value)}")
    return f" [label={beside}, tooltip={_quoted(value.name)}]"


def _type(value: Value) -> str:
    return value.dtype.value + _shape(value.shape)


def _shape(shape: Sequence[int]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _label(head: str, below: Sequence[str]) -> str:
    """An HTML-like label: a bold line above small ones."""
    small = "".join(f'<br/><font point-size="9">{_escaped(line)}</font>' for line in below)
    return f"<<b>{_escaped(head)}</b>{small}>"


def _attributes(written: Mapping[str, str], plain: Mapping[str, str]) -> str:
    found = [f"{key}={text}" for key, text in written.items()]
    found += (f'{key}="{text}"' for key, text in plain.items())
    return f" [{', '.join(found)}]"


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    """Text in which neither markup nor Graphviz's own escapes have a meaning.

    A backslash becomes a set minus, which looks alike: how often Graphviz unescapes a text depends on
    where it stands and on the version.
    """
    return escape(printable(text)).replace("\\", "\u2216")
