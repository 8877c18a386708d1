"""Operators that sum along axes: reductions, normalisation to length 1, softmax."""

from collections.abc import Mapping
from typing import Final

from furiosa.compiler.dfg.absorb.run import Builder, Run, stored
from furiosa.compiler.dfg.ir import Dfg, Node


def _build(
    run: Run, graph: Dfg, producers: Mapping[str, Node], op: str, axes: object
) -> Node | None:
    """`axes` as the model counts them, from the end too."""
    source = stored(graph, producers, run.first.inputs[0])
    if source is None or not source.shape or not isinstance(axes, tuple):
        return None
    rank = len(source.shape)
    counted = tuple(sorted({axis % rank for axis in axes}))
    return run.node(op, (source.name,), {"axes": counted, **run.clamp})


def _reduction(op: str) -> Builder:
    def build(run: Run, graph: Dfg, producers: Mapping[str, Node]) -> Node | None:
        node = run.first
        given = node.attributes.get("axes")
        if len(node.inputs) > 1 and node.inputs[1]:
            data = graph.data(node.inputs[1])
            given = None if data is None else tuple(data.ravel().tolist())
            if given is None:
                return None
        if not given:
            if node.attributes.get("noop_with_empty_axes"):
                return None
            given = tuple(range(len(graph.values[node.inputs[0]].shape)))
        return _build(run, graph, producers, op, given)

    return build


def _lp_normalization(run: Run, graph: Dfg, producers: Mapping[str, Node]) -> Node | None:
    if run.first.attributes.get("p", 2) != 2:
        return None
    axes = (run.first.attributes.get("axis", -1),)
    return _build(run, graph, producers, "QL2Normalize", axes)


def _softmax(run: Run, graph: Dfg, producers: Mapping[str, Node]) -> Node | None:
    axes = (run.first.attributes.get("axis", -1),)
    return _build(run, graph, producers, "QSoftmax", axes)


BUILDERS: Final[Mapping[str, Builder]] = {
    "LpNormalization": _lp_normalization,
    "ReduceL2": _reduction("QReduceL2"),
    "ReduceMean": _reduction("QReduceMean"),
    "ReduceSum": _reduction("QReduceSum"),
    "Softmax": _softmax,
}
