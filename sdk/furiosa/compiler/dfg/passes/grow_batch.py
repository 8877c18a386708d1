"""Batch size of a dfg: dimension 0 of every activation times n, where that means n inferences.

Models get their batch size from their frontend; this is for a dfg that is compiled by itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import ClassVar, Final

from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.dfg.operators import is_stored, uncovered
from furiosa.compiler.dfg.operators.operator import ints
from furiosa.compiler.diagnostics import InvalidConfig, InvalidModel
from furiosa.compiler.infra import Pass, PassResult
from furiosa.compiler.options import CompilerOptions

_HINT: Final = "compile the model itself with that batch size"


class GrowBatch(Pass[Dfg]):
    """Nothing to do for batch size 1, and for a dfg that has the batch size already.

    Raises: InvalidConfig for a dfg of another batch; InvalidModel for a node that mixes the entries of a
    batch, or of which that is not known.
    """

    name: ClassVar[str] = "grow-batch"

    def run(self, graph: Dfg, options: CompilerOptions) -> PassResult[Dfg]:
        n = options.batch_size
        if n in (1, graph.model.batch):
            return PassResult(graph, False)
        if graph.model.batch != 1:
            raise InvalidConfig(
                f"batch size {n}: the dfg was made for batch size {graph.model.batch}"
            )
        for node in graph.nodes:
            condition = _ROWWISE.get(node.op)
            if condition is None or not condition(node, graph):
                raise InvalidModel("it may mix the entries of a batch", _HINT, node.name, node.op)
        grown = graph.copy()
        grown.model = replace(graph.model, batch=n)
        for name, value in graph.values.items():
            if value.data is None:
                if not value.shape:
                    raise InvalidModel(f"'{name}' is a scalar", _HINT)
                grown.values[name] = replace(value, shape=(value.shape[0] * n, *value.shape[1:]))
        for node in grown.nodes:
            if is_stored(node.op) and (why := uncovered(node, grown)):
                raise InvalidModel(f"in a batch of {n} {why}", _HINT, node.name, node.op)
        return PassResult(grown, True)


def _always(node: Node, graph: Dfg) -> bool:
    return True


def _combined(node: Node, graph: Dfg) -> bool:
    """Operands line up with the result, and constants say the same for every entry."""
    rank = len(graph.values[node.outputs[0]].shape)
    for value in (graph.values[name] for name in node.inputs):
        if value.data is None and len(value.shape) != rank:
            return False
        if value.data is not None and len(value.shape) == rank and value.shape[0] != 1:
            return False
    return True


def _table(node: Node, graph: Dfg) -> bool:
    return len(graph.values[node.inputs[1]].shape) == 1 or node.attributes.get("axis", 0) != 0


def _gemm(node: Node, graph: Dfg) -> bool:
    return not node.attributes.get("transA", 0)


def _matmul(node: Node, graph: Dfg) -> bool:
    values = [graph.values[name] for name in node.inputs]
    ranks = {len(value.shape) for value in values}
    return all(value.data is None for value in values) and len(ranks) == 1 and ranks != {2}


def _along(node: Node, graph: Dfg) -> bool:
    return 0 not in ints(node, "axes")


def _axis(default: int) -> Callable[[Node, Dfg], bool]:
    def condition(node: Node, graph: Dfg) -> bool:
        axis = node.attributes.get("axis", default)
        rank = len(graph.values[node.outputs[0]].shape)
        return _combined(node, graph) and isinstance(axis, int) and bool(rank) and axis % rank != 0

    return condition


def _transpose(node: Node, graph: Dfg) -> bool:
    order = node.attributes.get("perm")
    return isinstance(order, tuple) and order[:1] == (0,)


def _slice(node: Node, graph: Dfg) -> bool:
    axes = graph.data(node.inputs[3]) if len(node.inputs) > 3 else None
    rank = len(graph.values[node.inputs[0]].shape)
    return axes is not None and all(int(axis) % rank != 0 for axis in axes.ravel())


def _pad(node: Node, graph: Dfg) -> bool:
    pads = graph.data(node.inputs[1]) if len(node.inputs) < 4 else None
    rank = len(graph.values[node.inputs[0]].shape)
    return pads is not None and pads.size == 2 * rank and not pads.ravel()[[0, rank]].any()


def _resize(node: Node, graph: Dfg) -> bool:
    """By factors; sizes would have to grow."""
    return not (len(node.inputs) > 3 and node.inputs[3])


_ROWWISE: Final[Mapping[str, Callable[[Node, Dfg], bool]]] = {
    **dict.fromkeys(
        (
            "Dequantize",
            "DepthToSpace",
            "GlobalMaxPool",
            "Identity",
            "MaxPool",
            "QAveragePool",
            "QConv",
            "QConvTranspose",
            "Quantize",
            "Requantize",
            "Reshape",
            "SpaceToDepth",
        ),
        _always,
    ),
    **dict.fromkeys(("QAdd", "QMean", "QMul", "QSub", "QSum"), _combined),
    **dict.fromkeys(("QL2Normalize", "QReduceL2", "QReduceMean", "QReduceSum", "QSoftmax"), _along),
    **dict.fromkeys(("QResize", "Resize"), _resize),
    "Concat": _axis(1),
    "Gather": _axis(0),
    "Pad": _pad,
    "QGemm": _gemm,
    "QMatMul": _matmul,
    "QTable": _table,
    "Slice": _slice,
    "Split": _axis(0),
    "Transpose": _transpose,
}
