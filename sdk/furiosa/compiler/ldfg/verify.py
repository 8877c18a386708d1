"""Rules of an ldfg. Each yields one message for each violation, naming the node and what was found."""

import math
from collections.abc import Iterator
from typing import Final

from furiosa.common.tensor import DType
from furiosa.compiler.infra import Rule
from furiosa.compiler.ldfg.ir import HostNode, HostSection, Ldfg, NpuNode, NpuSection
from furiosa.enf.isa import Opcode

_EIGHT_BIT: Final = (DType.INT8, DType.UINT8)
_CONVOLUTIONS: Final = (Opcode.CONV2D, Opcode.DEPTHWISE_CONV2D)


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


def npu_operands_have_the_types_of_the_operation(graph: Ldfg) -> Iterator[str]:
    for section in graph.sections:
        if isinstance(section, HostSection):
            continue
        for node in section.nodes:
            source, result = graph.values[node.inputs[0]], graph.values[node.output]
            pair = (source.dtype, result.dtype)
            match node.opcode:
                case Opcode.QUANTIZE:
                    right = pair[0] is DType.FLOAT32 and pair[1] in _EIGHT_BIT
                case Opcode.DEQUANTIZE:
                    right = pair[0] in _EIGHT_BIT and pair[1] is DType.FLOAT32
                case Opcode.RESHAPE:
                    right = pair[0] is pair[1]
                case _:
                    right = pair[0] in _EIGHT_BIT and pair[1] in _EIGHT_BIT
            if not right:
                yield f"{_where(node)} makes {pair[1].value} of {pair[0].value}"


def npu_shapes_fit_the_operation(graph: Ldfg) -> Iterator[str]:
    for section in graph.sections:
        if isinstance(section, HostSection):
            continue
        for node in section.nodes:
            source, result = graph.values[node.inputs[0]].shape, graph.values[node.output].shape
            match node.opcode:
                case Opcode.RESHAPE:
                    right = math.prod(source) == math.prod(result)
                case Opcode.CONV2D | Opcode.DEPTHWISE_CONV2D | Opcode.MAX_POOL2D:
                    right = len(source) == len(result) == 4 and source[0] == result[0]
                case _:
                    right = source == result
            if not right:
                yield f"{_where(node)} makes {list(result)} of {list(source)}"


def convolutions_have_a_constant_for_each_channel(graph: Ldfg) -> Iterator[str]:
    for node in graph.nodes:
        if isinstance(node, HostNode) or node.opcode not in _CONVOLUTIONS:
            continue
        channels = graph.values[node.output].shape[1]
        for field in ("weights", "bias", "multiplier"):
            data = getattr(node, field)
            if data is None or data.shape[0] != channels:
                found = None if data is None else list(data.shape)
                yield f"{_where(node)} has {field} {found} for {channels} channels"


RULES: Final[tuple[Rule, ...]] = (
    values_are_defined_once_and_before_use,
    sections_are_not_empty,
    npu_nodes_read_no_constants,
    outputs_are_made_by_nodes,
    npu_operands_have_the_types_of_the_operation,
    npu_shapes_fit_the_operation,
    convolutions_have_a_constant_for_each_channel,
)
