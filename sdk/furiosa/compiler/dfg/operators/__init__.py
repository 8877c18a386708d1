"""What the NPU can do, operator by operator, as one table. What is not in it runs on the host.

Source: docs/isa.md for what instructions take; compiler reference 9 for Warboy's limits.
"""

from collections.abc import Mapping
from typing import Final

from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.dfg.operators import (
    boundary,
    elementwise,
    movement,
    pooling,
    products,
    reduction,
    resize,
    transposed,
)
from furiosa.compiler.dfg.operators.operator import EIGHT_BIT, Operator

__all__ = ["EIGHT_BIT", "OPERATORS", "Operator", "is_stored", "uncovered"]

OPERATORS: Final[Mapping[str, Operator]] = {
    **boundary.OPERATORS,
    **products.OPERATORS,
    **pooling.OPERATORS,
    **elementwise.OPERATORS,
    **reduction.OPERATORS,
    **movement.OPERATORS,
    **resize.OPERATORS,
    **transposed.OPERATORS,
}
_COVERED: Final = frozenset(name for operator in OPERATORS.values() for name in operator.covers)


def is_stored(op: str) -> bool:
    """Whether it is a Q operator: on stored integers, and for the NPU alone."""
    return op in OPERATORS and OPERATORS[op].stores


def uncovered(node: Node, graph: Dfg) -> str | None:
    """Why the NPU cannot run this node, or None when it can."""
    operator = OPERATORS.get(node.op)
    if operator is None and node.op in _COVERED:
        return "it is in float, not between 8-bit tensors in a form that the NPU takes"
    if operator is None:
        return f"the NPU has no {node.op}"
    activations = operator.activations(node)
    if activations and all(graph.data(name) is not None for name in activations):
        return "it reads nothing but constants"
    return operator.condition(node, graph)
