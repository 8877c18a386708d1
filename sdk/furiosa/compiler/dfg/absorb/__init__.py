"""From Dequantize -> operator -> Quantize to one operator on stored integers: one function each."""

from collections.abc import Mapping
from typing import Final

from furiosa.compiler.dfg.absorb import (
    elementwise,
    pooling,
    products,
    reduction,
    resize,
    transposed,
)
from furiosa.compiler.dfg.absorb.run import Builder, Run, run_from

__all__ = ["BUILDERS", "Run", "run_from"]

BUILDERS: Final[Mapping[str, Builder]] = {
    **products.BUILDERS,
    **pooling.BUILDERS,
    **elementwise.BUILDERS,
    **reduction.BUILDERS,
    **resize.BUILDERS,
    **transposed.BUILDERS,
}
