"""Resize by linear interpolation."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from furiosa.compiler.dfg.ir import Node
from furiosa.compiler.dfg.operators.resize import linear
from furiosa.compiler.lower.operations.emit import Emit, Lowered, clamp, points, whole
from furiosa.enf.isa import Opcode


def resize_linear(emit: Emit, node: Node) -> None:
    """factor = input scale / output scale"""
    source, result = emit.value(node.inputs[0]), emit.value(node.outputs[0])
    lines = linear(node, emit.graph)
    assert not isinstance(lines, str), lines  # its condition
    (upper, lower, down), (left, right, across) = lines
    factor = np.float32(whole(source).scale) / np.float32(whole(result).scale)
    emit.add(
        node,
        Opcode.RESIZE_LINEAR,
        (source.name,),
        result.name,
        parameters=np.array((*upper, *lower, *left, *right), np.int32),
        multiplier=np.array((*down, *across, factor), np.float32),
        **points(source, result),
        **clamp(node),
    )


OPERATIONS: Final[Mapping[str, Lowered]] = {"QResize": resize_linear}
