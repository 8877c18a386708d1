"""Turn Dequantize -> operator -> Quantize into one operator on stored integers."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from furiosa.common.tensor import Quantization
from furiosa.compiler.dfg.coverage import EIGHT_BIT, uncovered
from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.dfg.parameters import bias_of, weights_of
from furiosa.compiler.infra import Pass, PassResult
from furiosa.compiler.options import CompilerOptions
from furiosa.compiler.value import Attribute, Attributes, Value, constant

_log = logging.getLogger(__name__)
_ACTIVATIONS: Final = ("Relu", "Clip")


class AbsorbQdq(Pass[Dfg]):
    """Replace by one Q operator each run

        Dequantize -> Conv | Gemm | MatMul | Add | AveragePool | GlobalAveragePool -> [act] -> Quantize
        Dequantize -> [act] -> Quantize

    where act is Relu or Clip. It becomes a clamp of what is stored, which is exact: quantising is
    monotonic. What the NPU cannot do stays as it is and so runs in float on the host.
    A Dequantize -> Quantize that changes nothing becomes an Identity.
    """

    name: ClassVar[str] = "absorb-qdq"

    def run(self, graph: Dfg, options: CompilerOptions) -> PassResult[Dfg]:
        before, graph = graph, graph.copy()
        producers, readers = graph.producers(), graph.readers()
        absorbed: set[str] = set()
        replaced: dict[str, Node] = {}  # by name of the Quantize that ends the run
        for node in graph.nodes:
            if node.op not in _BUILDERS or node.name in absorbed:
                continue
            run = _run_from(node, graph, readers)
            new = None if run is None else _BUILDERS[node.op](run, graph, producers)
            if run is None or new is None:
                continue
            if new.op != "Identity" and (why := uncovered(new, graph)):
                _log.debug("%s (%s) stays on the host: %s", node.name, node.op, why)
                continue
            absorbed.update(item.name for item in run.nodes)
            replaced[run.nodes[-1].name] = new
        if not replaced:
            return PassResult(before, False)
        graph.nodes = [
            replaced.get(node.name, node)
            for node in graph.nodes
            if node.name in replaced or node.name not in absorbed
        ]
        return PassResult(graph, True)


@dataclass(frozen=True, slots=True)
class _Run:
    """Nodes each of which alone reads the one before; the last quantises, to `result`."""

    nodes: tuple[Node, ...]
    clamp: dict[str, Attribute]
    result: Value
    into: Quantization

    @property
    def first(self) -> Node:
        return self.nodes[0]

    def node(self, op: str, inputs: tuple[str, ...], attributes: Attributes) -> Node:
        """The operator that takes the run's place."""
        work = [item for item in self.nodes if item.op != "Quantize"] or self.nodes
        return Node(
            self.first.name,
            op,
            inputs,
            (self.result.name,),
            attributes,
            tuple(source for item in work for source in item.sources),
        )


def _run_from(node: Node, graph: Dfg, readers: Mapping[str, list[Node]]) -> _Run | None:
    run = [node]
    low, high = -math.inf, math.inf
    while True:
        last = run[-1]
        if last.op in _ACTIVATIONS:
            if (bounds := _bounds(last, graph)) is None or (low, high) != (-math.inf, math.inf):
                return None
            low, high = bounds
        if last.op == "Quantize":
            break
        (output, *others), reading = last.outputs, readers[last.outputs[0]]
        if others or output in graph.outputs or len(reading) != 1:
            return None
        if reading[0].op not in ("Quantize", *_ACTIVATIONS) or reading[0].inputs[0] != output:
            return None
        run.append(reading[0])
    result = graph.values[last.outputs[0]]
    if (into := result.whole) is None or result.dtype not in EIGHT_BIT:
        return None
    return _Run(tuple(run), _clamp(low, high, result, into), result, into)


def _bounds(node: Node, graph: Dfg) -> tuple[float, float] | None:
    """What Relu or Clip lets through; None when that is not constant."""
    if node.op == "Relu":
        return 0.0, math.inf
    found = []
    for name, default in zip((*node.inputs[1:], "", "")[:2], (-math.inf, math.inf), strict=True):
        data = graph.data(name)
        if name and data is None:
            return None
        found.append(default if data is None else float(data.ravel()[0]))
    low, high = found
    return (low, high) if low <= high else None


def _clamp(low: float, high: float, result: Value, into: Quantization) -> dict[str, Attribute]:
    limits = np.iinfo(result.dtype.value)
    stored = []
    for bound in (low, high):
        scaled = np.rint(np.float32(bound) / np.float32(into.scale)) + np.float32(into.zero_point)
        stored.append(int(min(max(float(scaled), limits.min), limits.max)))
    return {"low": stored[0], "high": stored[1]}


def _stored(graph: Dfg, producers: Mapping[str, Node], name: str) -> Value | None:
    """The 8-bit activation that `name` dequantises."""
    source = producers.get(name)
    if source is None or source.op != "Dequantize":
        return None
    value = graph.values[source.inputs[0]]
    return value if value.whole is not None and value.dtype in EIGHT_BIT else None


def _product(
    run: _Run,
    graph: Dfg,
    producers: Mapping[str, Node],
    op: str,
    out_axis: int,
    attributes: Attributes,
) -> Node | None:
    """QConv or QGemm: weights and bias become constants of their own, under the operator's name."""
    source = _stored(graph, producers, run.first.inputs[0])
    held = weights_of(graph, producers, run.first.inputs[1], out_axis)
    if source is None or source.whole is None or held is None:
        return None
    weights, params = held
    inputs = [source.name]
    bias = None
    if len(run.first.inputs) > 2 and run.first.inputs[2]:
        units = np.float32(source.whole.scale) * np.array(params.scales, np.float32)
        bias = bias_of(graph, producers, run.first.inputs[2], units, len(weights))
        if bias is None:
            return None
    name = run.first.name
    inputs.append(graph.add(constant(graph.fresh(f"{name}/weights"), weights, params)))
    if bias is not None:
        inputs.append(graph.add(constant(graph.fresh(f"{name}/bias"), bias)))
    return run.node(op, tuple(inputs), {**attributes, **run.clamp})


def _conv(run: _Run, graph: Dfg, producers: Mapping[str, Node]) -> Node | None:
    return _product(run, graph, producers, "QConv", 0, run.first.attributes)


def _gemm(run: _Run, graph: Dfg, producers: Mapping[str, Node]) -> Node | None:
    given = run.first.attributes
    if given.get("alpha", 1.0) != 1 or given.get("beta", 1.0) != 1 or given.get("transA", 0):
        return None
    return _product(run, graph, producers, "QGemm", 0 if given.get("transB", 0) else 1, {})


def _matmul(run: _Run, graph: Dfg, producers: Mapping[str, Node]) -> Node | None:
    left, right = (graph.values[name].shape for name in run.first.inputs)
    if len(left) < 2 or len(right) != 2:
        return None
    return _product(run, graph, producers, "QGemm", 1, {})


def _add(run: _Run, graph: Dfg, producers: Mapping[str, Node]) -> Node | None:
    sources = [_stored(graph, producers, name) for name in run.first.inputs]
    names = [value.name for value in sources if value is not None and value.data is None]
    return run.node("QAdd", tuple(names), run.clamp) if len(names) == 2 else None


def _average_pool(run: _Run, graph: Dfg, producers: Mapping[str, Node]) -> Node | None:
    source = _stored(graph, producers, run.first.inputs[0])
    if source is None:
        return None
    given = run.first.attributes
    if run.first.op == "GlobalAveragePool":
        kernel = source.shape[2:]
        ones, zeros = (1,) * len(kernel), (0,) * (2 * len(kernel))
        given = {"kernel_shape": kernel, "strides": ones, "dilations": ones, "pads": zeros}
    return run.node("QAveragePool", (source.name,), {**given, **run.clamp})


def _requantize(run: _Run, graph: Dfg, producers: Mapping[str, Node]) -> Node | None:
    source = _stored(graph, producers, run.first.inputs[0])
    if source is None or source.data is not None:
        return None
    same = (source.whole, source.dtype) == (run.into, run.result.dtype)
    if len(run.nodes) == 1 and same:
        return run.node("Identity", (source.name,), {})
    return run.node("Requantize", (source.name,), run.clamp)


_BUILDERS: Final[Mapping[str, Callable[[_Run, Dfg, Mapping[str, Node]], Node | None]]] = {
    "Add": _add,
    "AveragePool": _average_pool,
    "Clip": _requantize,
    "Conv": _conv,
    "Gemm": _gemm,
    "GlobalAveragePool": _average_pool,
    "MatMul": _matmul,
    "Quantize": _requantize,
    "Relu": _requantize,
}
