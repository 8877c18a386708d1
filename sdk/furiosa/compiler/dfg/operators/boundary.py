"""Between real numbers and stored integers."""

from collections.abc import Mapping
from typing import Final

from furiosa.common.tensor import DType
from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.dfg.operators.operator import EIGHT_BIT, Operator
from furiosa.compiler.value import Value
from furiosa.enf.isa import Opcode


def _quantize(node: Node, graph: Dfg) -> str | None:
    return _boundary(graph.values[node.inputs[0]], graph.values[node.outputs[0]])


def _dequantize(node: Node, graph: Dfg) -> str | None:
    return _boundary(graph.values[node.outputs[0]], graph.values[node.inputs[0]])


def _boundary(real: Value, stored: Value) -> str | None:
    if real.dtype is not DType.FLOAT32 or stored.dtype not in EIGHT_BIT:
        return f"it converts between {real.dtype.value} and {stored.dtype.value}"
    return None if stored.whole is not None else "it has more than one scale"


OPERATORS: Final[Mapping[str, Operator]] = {
    "Dequantize": Operator(
        ("DequantizeLinear",), "8 bits, one scale", _dequantize, instructions=(Opcode.DEQUANTIZE,)
    ),
    "Quantize": Operator(
        ("QuantizeLinear",), "8 bits, one scale", _quantize, instructions=(Opcode.QUANTIZE,)
    ),
}
