"""Elementwise operators on stored integers."""

from collections.abc import Mapping
from typing import Final

from furiosa.compiler.dfg.elementwise import KERNELS
from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.dfg.operators.operator import Operator, every
from furiosa.enf.isa import Opcode

MAX_SUM_FACTOR: Final = 2.0**100  # of ADD; source: docs/isa.md
MAX_PRODUCT_FACTOR: Final = 2.0**60  # of MULTIPLY
MAX_OPERANDS: Final = 64
_OPERANDS: Final = "operands of 8 bits, of which one may be constant, with broadcasting"


def scales_of(node: Node, graph: Dfg) -> tuple[list[float], float]:
    """Scales of the operands and of the result."""
    values = [graph.values[name].whole for name in (*node.inputs, *node.outputs)]
    scales = [found.scale for found in values if found is not None]
    return scales[:-1], scales[-1]


def _sum(node: Node, graph: Dfg) -> str | None:
    sources, result = scales_of(node, graph)
    if max(sources) / result > MAX_SUM_FACTOR:
        return f"it rescales by {max(sources) / result:.3g}"
    return None


def _product(node: Node, graph: Dfg) -> str | None:
    (left, right), result = scales_of(node, graph)
    if max(left, right / result) > MAX_PRODUCT_FACTOR:
        return f"it rescales by {max(left, right / result):.3g}"
    return None


def _several(node: Node, graph: Dfg) -> str | None:
    """More than two are summed as integers, which are of one unit only if their scales are equal."""
    values = [graph.values[name] for name in node.inputs]
    if len(values) == 2:
        return _sum(node, graph)
    if len(values) > MAX_OPERANDS:
        return f"it has {len(values)} operands, at most {MAX_OPERANDS}"
    if len({value.quantization for value in values}) > 1 or len({v.dtype for v in values}) > 1:
        return f"its {len(values)} operands have different scales"
    if any(value.shape != graph.values[node.outputs[0]].shape for value in values):
        return f"its {len(values)} operands have different shapes"
    return None


OPERATORS: Final[Mapping[str, Operator]] = {
    "QTable": Operator(
        tuple(sorted({*KERNELS} - {"Identity"})),
        "what comes between Dequantize and Quantize depends on one 8-bit tensor, and on constants that vary "
        "along one axis of up to 4096 elements",
        stores=True,
        clamps=False,
        instructions=(Opcode.TABLE,),
    ),
    "Requantize": Operator(
        ("Clip", "Relu"),
        "alone between Dequantize and Quantize",
        stores=True,
        instructions=(Opcode.TABLE,),
    ),
    "QAdd": Operator(
        ("Add",), _OPERANDS, _sum, every, stores=True, instructions=(Opcode.LOAD, Opcode.ADD)
    ),
    "QSub": Operator(
        ("Sub",), _OPERANDS, _sum, every, stores=True, instructions=(Opcode.LOAD, Opcode.ADD)
    ),
    "QMul": Operator(
        ("Mul",),
        _OPERANDS,
        _product,
        every,
        stores=True,
        instructions=(Opcode.LOAD, Opcode.MULTIPLY),
    ),
    **{
        f"Q{op}": Operator(
            (op,),
            "two operands as of Add; more if of one shape and scale",
            _several,
            every,
            stores=True,
            instructions=(Opcode.ADD, Opcode.CONCAT, Opcode.REDUCE_SUM),
        )
        for op in ("Mean", "Sum")
    },
}
