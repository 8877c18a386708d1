"""Pooling over windows."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from furiosa.compiler.dfg.ir import Node
from furiosa.compiler.dfg.operators.pooling import Pool, averaged, pool_of
from furiosa.compiler.lower.operations.emit import (
    Emit,
    Lowered,
    clamp,
    full_range,
    ones,
    points,
    whole,
)
from furiosa.enf.isa import Opcode, Window


def _images(emit: Emit, node: Node, pool: Pool) -> tuple[str, str, Window]:
    """Source and result as images, and the window."""
    shape = emit.value(node.inputs[0]).shape[:2]
    source = emit.reshaped(node, node.inputs[0], (*shape, *pool.source))
    result = emit.in_shape(node, (*shape, *pool.result))
    (height, width), (down, right), (tall, wide) = pool.kernel, pool.strides, pool.dilations
    return source, result, Window((height, width), (down, right), pool.pads, (tall, wide))


def average_pool(emit: Emit, node: Node) -> None:
    """multiplier = input scale / (elements averaged * output scale), which edges may have less of.

    Where all windows average as many, one number a channel will do: a depthwise convolution.
    """
    counts = averaged(node, emit.graph)
    source, result, window = _images(emit, node, pool_of(node, emit.graph))
    if (counts == counts.flat[0]).all():
        ones(emit, node, source, result, window, int(counts.flat[0]))
    else:
        before, after = emit.value(source), emit.value(result)
        divisors = counts.astype(np.float32) * np.float32(whole(after).scale)
        emit.add(
            node,
            Opcode.AVERAGE_POOL2D,
            (source,),
            result,
            multiplier=np.float32(whole(before).scale) / divisors,
            window=window,
            **points(before, after),
            **clamp(node),
        )
    emit.deliver(node, result)


def max_pool(emit: Emit, node: Node) -> None:
    source, result, window = _images(emit, node, pool_of(node, emit.graph))
    limits = full_range(emit.value(result))
    emit.add(node, Opcode.MAX_POOL2D, (source,), result, window=window, **limits)
    emit.deliver(node, result)


OPERATIONS: Final[Mapping[str, Lowered]] = {
    "GlobalMaxPool": max_pool,
    "MaxPool": max_pool,
    "QAveragePool": average_pool,
}
