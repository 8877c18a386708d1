"""Averages over windows."""

from collections.abc import Mapping
from typing import Final

from furiosa.compiler.dfg.absorb.run import Builder, Run, stored
from furiosa.compiler.dfg.ir import Dfg, Node


def _average_pool(run: Run, graph: Dfg, producers: Mapping[str, Node]) -> Node | None:
    source = stored(graph, producers, run.first.inputs[0])
    if source is None or source.data is not None:
        return None
    given = run.first.attributes
    if run.first.op == "GlobalAveragePool":
        kernel = source.shape[2:]
        given = {
            "kernel_shape": kernel,
            "strides": (1,) * len(kernel),
            "dilations": (1,) * len(kernel),
            "pads": (0,) * (2 * len(kernel)),
        }
    return run.node("QAveragePool", (source.name,), {**given, **run.clamp})


BUILDERS: Final[Mapping[str, Builder]] = {
    "AveragePool": _average_pool,
    "GlobalAveragePool": _average_pool,
}
