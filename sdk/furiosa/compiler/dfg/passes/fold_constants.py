"""Replace nodes that compute constants by the constants."""

import logging
from collections.abc import Mapping
from typing import ClassVar, Final

import numpy as np

from furiosa.compiler.dfg.fold_kernels import KERNELS, dequantize, quantize
from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.dfg.movers import MOVERS, data_operands
from furiosa.compiler.infra import Pass, PassResult
from furiosa.compiler.options import CompilerOptions
from furiosa.compiler.value import Array, constant

MAX_BYTES: Final = 64 << 20  # of a folded result: folding must not blow the program up
_log = logging.getLogger(__name__)


class FoldConstants(Pass[Dfg]):
    """Replace each node whose inputs are all constants, and each Shape, by its value.

    Results above MAX_BYTES, graph outputs, and operators or cases without a kernel are left alone.
    Dequantize is left alone unless `dequantize`: before QDQ forms are absorbed it says how to read
    weights. Not so one that only says what a Pad puts around.
    """

    name: ClassVar[str] = "fold-constants"

    def __init__(self, *, dequantize: bool) -> None:
        self._dequantize = dequantize

    def run(self, graph: Dfg, options: CompilerOptions) -> PassResult[Dfg]:
        before, graph = graph, graph.copy()
        readers = graph.readers()
        kept = []
        for node in graph.nodes:
            is_left = node.op == "Dequantize" and not (
                self._dequantize or _is_parameter(node, readers)
            )
            data = None if is_left else self._value(graph, node)
            if data is None:
                kept.append(node)
                continue
            result = graph.values[node.outputs[0]]
            graph.add(constant(result.name, data, result.quantization))
        if len(kept) == len(graph.nodes):
            return PassResult(before, False)
        graph.nodes = kept
        return PassResult(graph, True)

    def _value(self, graph: Dfg, node: Node) -> Array | None:
        if len(node.outputs) != 1 or node.outputs[0] in graph.outputs:
            return None
        result = graph.values[node.outputs[0]]
        if result.nbytes > MAX_BYTES:
            return None
        if node.op == "Shape" and not node.attributes:
            return np.array(graph.values[node.inputs[0]].shape, np.int64)
        inputs = [graph.data(name) for name in node.inputs]
        if any(data is None for name, data in zip(node.inputs, inputs, strict=True) if name):
            return None
        data: Array | None = None
        if node.op == "Quantize" and result.quantization and inputs[0] is not None:
            data = quantize(inputs[0], result.quantization, result)
        elif node.op == "Dequantize" and inputs[0] is not None:
            params = graph.values[node.inputs[0]].quantization
            data = None if params is None else dequantize(inputs[0], params)
        elif kernel := KERNELS.get(node.op):
            data = kernel(inputs, node.attributes, result)
        if data is not None and (data.shape, data.dtype) != (result.shape, result.dtype.numpy):
            _log.debug("%s (%s) is not folded: %s", node.name, node.op, data.dtype)
            return None
        return data


def _is_parameter(node: Node, readers: Mapping[str, list[Node]]) -> bool:
    """Whether nothing reads its result but movers of other elements."""
    (name,) = node.outputs
    return all(
        reader.op in MOVERS and name not in data_operands(reader) for reader in readers[name]
    )
