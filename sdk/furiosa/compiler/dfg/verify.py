"""Rules of a dfg. Each yields one message for each violation, naming the node and what was found."""

import math
from collections.abc import Iterator
from typing import Final

from furiosa.common.tensor import DType
from furiosa.compiler.dfg.ir import Dfg, Node, Place
from furiosa.compiler.dfg.operators import EIGHT_BIT, OPERATORS, is_stored
from furiosa.compiler.infra import Rule

_NUMPY: Final = {dtype: dtype.numpy for dtype in DType}


def _where(node: Node) -> str:
    return f"{node.name} ({node.op})"


def every_name_has_a_value(graph: Dfg) -> Iterator[str]:
    for node in graph.nodes:
        for name in (*node.reads, *filter(None, node.outputs)):
            if name not in graph.values:
                yield f"{_where(node)} names {name!r}, which has no value"
    for name in (*graph.inputs, *graph.outputs):
        if name not in graph.values:
            yield f"the graph names {name!r}, which has no value"


def values_are_defined_once_and_before_use(graph: Dfg) -> Iterator[str]:
    seen = set(graph.inputs)
    seen.update(name for name, value in graph.values.items() if value.data is not None)
    for node in graph.nodes:
        for name in node.reads:
            if name not in seen:
                yield f"{_where(node)} reads {name!r} before it is defined"
        for name in filter(None, node.outputs):
            if name in seen:
                yield f"{_where(node)} defines {name!r} again"
            seen.add(name)
    for name in graph.outputs:
        if name not in seen:
            yield f"the graph's output {name!r} is never defined"


def nodes_have_names_of_their_own(graph: Dfg) -> Iterator[str]:
    seen: set[str] = set()
    for node in graph.nodes:
        if node.name in seen:
            yield f"{_where(node)} has the name of an earlier node"
        seen.add(node.name)


def constants_match_their_type(graph: Dfg) -> Iterator[str]:
    for value in graph.values.values():
        if value.data is None:
            continue
        if (value.data.dtype, value.data.shape) != (_NUMPY[value.dtype], value.shape):
            found = (value.data.dtype.name, value.data.shape)
            yield f"constant {value.name!r} is {found}, declared {(value.dtype.value, value.shape)}"


def quantization_fits_the_value(graph: Dfg) -> Iterator[str]:
    for value in graph.values.values():
        if (params := value.quantization) is None:
            continue
        expected = 1
        if params.axis is not None:
            if not 0 <= params.axis < len(value.shape):
                yield f"{value.name!r} is quantised on axis {params.axis} of {len(value.shape)}"
                continue
            expected = value.shape[params.axis]
        if not expected == len(params.scales) == len(params.zero_points):
            yield f"{value.name!r} has {len(params.scales)} scales, needs {expected}"
        if not (all(map(math.isfinite, params.scales)) and min(params.scales) > 0):
            yield f"{value.name!r} has a scale that is not positive: {min(params.scales)}"


def q_operators_read_and_write_quantised_values(graph: Dfg) -> Iterator[str]:
    for node in graph.nodes:
        if not is_stored(node.op):
            continue
        for name in (*OPERATORS[node.op].activations(node), *node.outputs):
            value = graph.values[name]
            if value.dtype not in EIGHT_BIT or value.whole is None:
                yield f"{_where(node)} has {name!r} as {value.dtype.value}, not quantised to 8 bits"
        if OPERATORS[node.op].clamps and not {"low", "high"} <= node.attributes.keys():
            yield f"{_where(node)} has no low and high"


def q_weights_are_constants(graph: Dfg) -> Iterator[str]:
    for node in graph.nodes:
        if node.op not in ("QConv", "QConvTranspose", "QGemm"):
            continue
        weights = graph.values[node.inputs[1]]
        if weights.data is None or weights.dtype is not DType.INT8 or weights.quantization is None:
            yield f"{_where(node)} has weights {weights.name!r} that are no quantised int8 constant"
        elif len(points := set(weights.quantization.zero_points)) > 1:
            yield f"{_where(node)} has weights {weights.name!r} with {len(points)} zero points"
        elif not -128 <= min(points) <= 127:
            yield f"{_where(node)} has weights {weights.name!r} with the zero point {min(points)}"
        for name in node.inputs[2:]:
            bias = graph.values[name]
            if bias.data is None or bias.dtype is not DType.INT32:
                yield f"{_where(node)} has a bias {name!r} that is no int32 constant"


def q_tables_have_a_row_for_each_stored_value(graph: Dfg) -> Iterator[str]:
    for node in graph.nodes:
        if node.op != "QTable":
            continue
        table, result = (graph.values[name] for name in (node.inputs[1], node.outputs[0]))
        axis = node.attributes.get("axis")
        rows = (result.shape[axis], 256) if isinstance(axis, int) else (256,)
        if table.data is None or (table.shape, table.dtype) != (rows, result.dtype):
            found = f"{table.dtype.value}{list(table.shape)}"
            yield f"{_where(node)} has {found} as its table, needs {result.dtype.value}{list(rows)}"
        if result.shape != graph.values[node.inputs[0]].shape:
            yield f"{_where(node)} changes the shape to {list(result.shape)}"


def reshapes_keep_elements_and_type(graph: Dfg) -> Iterator[str]:
    for node in graph.nodes:
        if node.op != "Reshape":
            continue
        before, after = graph.values[node.inputs[0]], graph.values[node.outputs[0]]
        if (math.prod(before.shape), before.dtype) != (math.prod(after.shape), after.dtype):
            yield (
                f"{_where(node)} makes {after.dtype.value}{list(after.shape)} "
                f"of {before.dtype.value}{list(before.shape)}"
            )


def the_npu_gets_only_what_it_can_do(graph: Dfg) -> Iterator[str]:
    for node in graph.nodes:
        if node.place is Place.NPU and node.op not in OPERATORS:
            yield f"{_where(node)} is placed on the NPU"
        if node.place is Place.HOST and is_stored(node.op):
            yield f"{_where(node)} is placed on the host"


RULES: Final[tuple[Rule, ...]] = (
    every_name_has_a_value,
    values_are_defined_once_and_before_use,
    nodes_have_names_of_their_own,
    constants_match_their_type,
    quantization_fits_the_value,
    q_operators_read_and_write_quantised_values,
    q_weights_are_constants,
    q_tables_have_a_row_for_each_stored_value,
    reshapes_keep_elements_and_type,
    the_npu_gets_only_what_it_can_do,
)
