"""Operators that sum along axes: reductions, normalisation to length 1, softmax."""

import math
from collections.abc import Mapping
from typing import Final

from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.dfg.operators.operator import Condition, Operator, ints
from furiosa.enf.isa import Opcode

MAX_BATCH: Final = 2  # source: compiler reference 9
MAX_SOFTMAX: Final = 1 << 24  # elements: each needs a term of 1 of a sum that float32 holds exactly
_INT32: Final = 2**31


def reduced(node: Node, graph: Dfg) -> int:
    """How many elements each result is made of."""
    shape = graph.values[node.inputs[0]].shape
    return math.prod(shape[axis] for axis in ints(node, "axes"))


def _sum_of(term: int) -> Condition:
    def condition(node: Node, graph: Dfg) -> str | None:
        worst = reduced(node, graph) * term
        return f"its sums reach {worst}" if worst >= _INT32 else None

    return condition


def _batch(node: Node, graph: Dfg) -> str | None:
    """Dimension 0, unless that is what is summed."""
    batch = graph.values[node.inputs[0]].shape[0]
    if batch <= MAX_BATCH or 0 in ints(node, "axes"):
        return None
    return f"its batch is {batch}, at most {MAX_BATCH}"


def _normalize(node: Node, graph: Dfg) -> str | None:
    return _batch(node, graph) or _sum_of(255 * 255)(node, graph)


def _softmax(node: Node, graph: Dfg) -> str | None:
    if reduced(node, graph) > MAX_SOFTMAX:
        return f"it is over {reduced(node, graph)} elements"
    return _batch(node, graph)


OPERATORS: Final[Mapping[str, Operator]] = {
    "QReduceSum": Operator(
        ("ReduceSum",),
        "constant axes",
        _sum_of(255),
        stores=True,
        instructions=(Opcode.REDUCE_SUM,),
    ),
    "QReduceMean": Operator(
        ("ReduceMean",),
        "constant axes",
        _sum_of(255),
        stores=True,
        instructions=(Opcode.REDUCE_SUM,),
    ),
    "QReduceL2": Operator(
        ("ReduceL2",),
        "constant axes",
        _sum_of(255 * 255),
        stores=True,
        instructions=(Opcode.REDUCE_L2,),
    ),
    "QL2Normalize": Operator(
        ("LpNormalization",),
        f"p = 2; batch up to {MAX_BATCH}",
        _normalize,
        stores=True,
        instructions=(Opcode.L2_NORMALIZE,),
    ),
    "QSoftmax": Operator(
        ("Softmax",),
        f"batch up to {MAX_BATCH}",
        _softmax,
        stores=True,
        instructions=(Opcode.SOFTMAX,),
    ),
}
