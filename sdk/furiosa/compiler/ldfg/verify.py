"""Rules of an ldfg. Each yields one message for each violation, naming the node and what was found."""

from collections.abc import Iterator
from typing import Final

from furiosa.compiler.infra import Rule
from furiosa.compiler.ldfg.ir import CONSTANTS, HostNode, Ldfg, NpuNode, NpuSection
from furiosa.compiler.ldfg.operands import OPERANDS
from furiosa.compiler.value import Value


def _where(node: NpuNode | HostNode) -> str:
    return f"{node.name} ({node.op if isinstance(node, HostNode) else node.opcode.name.lower()})"


def values_are_defined_once_and_before_use(graph: Ldfg) -> Iterator[str]:
    seen = set(graph.inputs)
    seen.update(name for name, value in graph.values.items() if value.data is not None)
    for node in graph.nodes:
        for name in node.reads:
            if name not in seen:
                yield f"{_where(node)} reads {name!r} before it is defined"
        for name in node.writes:
            if name in seen or name not in graph.values:
                yield f"{_where(node)} defines {name!r}, which is defined already or has no value"
            seen.add(name)
    for name in graph.outputs:
        if name not in seen:
            yield f"the graph's output {name!r} is never defined"


def sections_are_not_empty(graph: Ldfg) -> Iterator[str]:
    for index, section in enumerate(graph.sections):
        if not section.nodes:
            yield f"section {index} has no nodes"


def npu_nodes_read_no_constants(graph: Ldfg) -> Iterator[str]:
    for section in graph.sections:
        if isinstance(section, NpuSection):
            for node in section.nodes:
                for name in node.inputs:
                    if graph.values[name].data is not None:
                        yield f"{_where(node)} reads the constant {name!r}"


def outputs_are_made_by_nodes(graph: Ldfg) -> Iterator[str]:
    made = {name for node in graph.nodes for name in node.writes}
    for index, name in enumerate(graph.outputs):
        if name not in made or name in graph.outputs[:index]:
            yield f"output {index} is {name!r}, which no node makes or is an output already"


def _operations(graph: Ldfg) -> Iterator[tuple[NpuNode, tuple[Value, ...], Value]]:
    """Those with as many sources as they take, with these and their result."""
    for node in graph.nodes:
        if isinstance(node, NpuNode) and len(node.inputs) == OPERANDS[node.opcode].sources:
            yield node, tuple(graph.values[name] for name in node.inputs), graph.values[node.output]


def npu_operations_have_their_sources(graph: Ldfg) -> Iterator[str]:
    for node in graph.nodes:
        if isinstance(node, NpuNode):
            found, wanted = len(node.inputs), OPERANDS[node.opcode].sources
            if found != wanted:
                yield f"{_where(node)} has {found} sources, takes {wanted}"


def npu_operands_have_the_types_of_the_operation(graph: Ldfg) -> Iterator[str]:
    for node, sources, result in _operations(graph):
        types = tuple(value.dtype for value in sources)
        if not OPERANDS[node.opcode].types(types, result.dtype):
            found = " and ".join(dtype.value for dtype in types)
            yield f"{_where(node)} makes {result.dtype.value} of {found}"


def npu_shapes_fit_the_operation(graph: Ldfg) -> Iterator[str]:
    for node, sources, result in _operations(graph):
        shapes = tuple(value.shape for value in sources)
        if not OPERANDS[node.opcode].shapes(node, shapes, result.shape):
            found = " and ".join(str(list(shape)) for shape in shapes)
            yield f"{_where(node)} makes {list(result.shape)} of {found}"


def npu_constants_fit_the_operation(graph: Ldfg) -> Iterator[str]:
    for node, sources, result in _operations(graph):
        shapes = tuple(value.shape for value in sources)
        if not OPERANDS[node.opcode].shapes(node, shapes, result.shape):
            continue
        wanted = OPERANDS[node.opcode].constants(node, shapes, result.shape)
        for field in CONSTANTS:
            data = getattr(node, field)
            found = None if data is None else data.shape
            if found != wanted.get(field):
                has, needs = (None if x is None else list(x) for x in (found, wanted.get(field)))
                yield f"{_where(node)} has {field} {has}, needs {needs}"


RULES: Final[tuple[Rule, ...]] = (
    values_are_defined_once_and_before_use,
    sections_are_not_empty,
    npu_nodes_read_no_constants,
    outputs_are_made_by_nodes,
    npu_operations_have_their_sources,
    npu_operands_have_the_types_of_the_operation,
    npu_shapes_fit_the_operation,
    npu_constants_fit_the_operation,
)
