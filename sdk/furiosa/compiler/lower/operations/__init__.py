"""How each dfg operator is done with the operations of the NPU: one function each, and one table."""

from collections.abc import Mapping
from typing import Final

from furiosa.compiler.lower.operations import (
    boundary,
    elementwise,
    movement,
    pooling,
    products,
    reduction,
    resize,
    transposed,
)
from furiosa.compiler.lower.operations.emit import Emit, Lowered

__all__ = ["OPERATIONS", "Emit"]

OPERATIONS: Final[Mapping[str, Lowered]] = {
    **boundary.OPERATIONS,
    **products.OPERATIONS,
    **pooling.OPERATIONS,
    **elementwise.OPERATIONS,
    **reduction.OPERATIONS,
    **movement.OPERATIONS,
    **resize.OPERATIONS,
    **transposed.OPERATIONS,
}
