"""Between real numbers and stored integers."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from furiosa.compiler.dfg.ir import Node
from furiosa.compiler.lower.operations.emit import Emit, Lowered, full_range, whole
from furiosa.enf.isa import Opcode


def quantize(emit: Emit, node: Node) -> None:
    stored = emit.value(node.outputs[0])
    params = whole(stored)
    emit.add(
        node,
        Opcode.QUANTIZE,
        node.inputs,
        stored.name,
        multiplier=np.array([params.scale], np.float32),
        zero_out=params.zero_point,
        **full_range(stored),
    )


def dequantize(emit: Emit, node: Node) -> None:
    params = whole(emit.value(node.inputs[0]))
    emit.add(
        node,
        Opcode.DEQUANTIZE,
        node.inputs,
        node.outputs[0],
        multiplier=np.array([params.scale], np.float32),
        zero0=params.zero_point,
    )


OPERATIONS: Final[Mapping[str, Lowered]] = {
    "Dequantize": dequantize,
    "Quantize": quantize,
}
