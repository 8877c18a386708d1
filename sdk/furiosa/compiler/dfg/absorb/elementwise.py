"""Elementwise operators on several stored tensors; on one they are tables."""

from collections.abc import Mapping
from typing import Final

from furiosa.compiler.dfg.absorb.run import Builder, Run, stored
from furiosa.compiler.dfg.ir import Dfg, Node


def _operands(op: str) -> Builder:
    """Of stored tensors, of which some but not all may be constants."""

    def build(run: Run, graph: Dfg, producers: Mapping[str, Node]) -> Node | None:
        names = []
        for name in run.first.inputs:
            value = stored(graph, producers, name)
            if value is None:
                return None
            names.append(value.name)
        return run.node(op, tuple(names), run.clamp)

    return build


BUILDERS: Final[Mapping[str, Builder]] = {
    "Add": _operands("QAdd"),
    "Mean": _operands("QMean"),
    "Mul": _operands("QMul"),
    "Sub": _operands("QSub"),
    "Sum": _operands("QSum"),
}
