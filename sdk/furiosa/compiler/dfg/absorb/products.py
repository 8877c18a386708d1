"""Products: convolutions and matrix products with constant weights, and of two activations."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from furiosa.compiler.dfg.absorb.run import Builder, Run, stored
from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.dfg.parameters import bias_of, weights_of
from furiosa.compiler.value import Attributes, constant


def _product(
    run: Run,
    graph: Dfg,
    producers: Mapping[str, Node],
    op: str,
    out_axis: int,
    attributes: Attributes,
    alpha: float = 1.0,
    beta: float = 1.0,
) -> Node | None:
    """QConv or QGemm: weights, their scale times `alpha`, and `beta` times the bias become constants of
    their own, under the operator's name."""
    source = stored(graph, producers, run.first.inputs[0])
    held = weights_of(graph, producers, run.first.inputs[1], out_axis)
    if source is None or source.whole is None or held is None:
        return None
    weights, params = held
    if alpha != 1:
        scales = np.array(params.scales, np.float32) * np.float32(alpha)
        if not (np.isfinite(scales) & (scales > 0)).all():
            return None
        params = replace(params, scales=tuple(scales.tolist()))
    inputs = [source.name]
    bias = None
    if len(run.first.inputs) > 2 and run.first.inputs[2]:
        units = np.float32(source.whole.scale) * np.array(params.scales, np.float32)
        bias = bias_of(graph, producers, run.first.inputs[2], units, len(weights), beta)
        if bias is None:
            return None
    name = run.first.name
    inputs.append(graph.add(constant(graph.fresh(f"{name}/weights"), weights, params)))
    if bias is not None:
        inputs.append(graph.add(constant(graph.fresh(f"{name}/bias"), bias)))
    return run.node(op, tuple(inputs), {**attributes, **run.clamp})


def _conv(run: Run, graph: Dfg, producers: Mapping[str, Node]) -> Node | None:
    return _product(run, graph, producers, "QConv", 0, run.first.attributes)


def _gemm(run: Run, graph: Dfg, producers: Mapping[str, Node]) -> Node | None:
    given = run.first.attributes
    alpha, beta = given.get("alpha", 1.0), given.get("beta", 1.0)
    assert isinstance(alpha, int | float)
    assert isinstance(beta, int | float)
    turned: Attributes = {"transA": 1} if given.get("transA", 0) else {}
    axis = 0 if given.get("transB", 0) else 1
    left, right = (graph.values[name].shape for name in run.first.inputs[:2])
    if left[0 if turned else 1] != right[1 - axis]:  # not checked when a model is read
        return None
    return _product(run, graph, producers, "QGemm", axis, turned, alpha, beta)


def _matmul(run: Run, graph: Dfg, producers: Mapping[str, Node]) -> Node | None:
    """With a constant matrix on the right QGemm, else QMatMul of what is stored on either side."""
    left, right = (graph.values[name].shape for name in run.first.inputs)
    if len(left) >= 2 and len(right) == 2:
        made = _product(run, graph, producers, "QGemm", 1, {})
        if made is not None:
            return made
    names = []
    for name in run.first.inputs:
        value = stored(graph, producers, name)
        if value is None:
            return None
        names.append(value.name)
    return run.node("QMatMul", tuple(names), run.clamp)


BUILDERS: Final[Mapping[str, Builder]] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
}
