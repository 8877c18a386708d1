"""TensorFlow Lite operators to dfg nodes: one function each, and one table of what is supported."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from furiosa.common.tensor import DType
from furiosa.compiler.dfg.fold_kernels import dequantize as stored_to_real
from furiosa.compiler.frontend.tflite import elementwise, images, movement, reduction, scaling
from furiosa.compiler.frontend.tflite.builder import EIGHT_BIT, Layout
from furiosa.compiler.frontend.tflite.item import Import
from furiosa.compiler.frontend.tflite.weights import operands, weights_of


def fully_connected(item: Import) -> None:
    """Rows times weights. A flattened image stays NCHW: its weights are put in that order instead."""
    source, held, bias = item.inputs(2, 3)
    assert source is not None
    assert held is not None
    if item.option("WeightsFormat"):
        raise item.refuse("its weights are shuffled", "export it with the default weights format")
    if len(held.shape) != 2:
        raise item.refuse(f"its weights have shape {list(held.shape)}, not 2 dimensions")
    builder, operator = item.builder, item.operator
    weights = weights_of(operator, held, 0, (0, 1))
    outputs, depth = held.shape
    rows, rest = divmod(math.prod(source.shape), depth)
    shape = item.result.shape
    if rest or not shape or math.prod(shape) != rows * outputs or shape[-1] != outputs:
        raise item.refuse(
            f"its input {list(source.shape)}, weights {list(held.shape)} and result {list(shape)} "
            "do not fit"
        )
    origin = builder.views.get(source.index, source)
    flat = len(origin.shape) == 4 and origin.shape[0] == rows
    if flat and builder.has(origin, Layout.IMAGE) and origin.quantization == source.quantization:
        _, h, w, c = origin.shape
        name = builder.stored(operator, origin, Layout.IMAGE)
        columns = weights.data.reshape(outputs, h, w, c).transpose(0, 3, 1, 2)
        weights = replace(weights, data=np.ascontiguousarray(columns.reshape(outputs, depth)))
    else:
        name = builder.stored(operator, source, Layout.PLAIN)
    name = builder.reshaped(operator, name, (rows, depth))
    item.compute(
        "Gemm",
        operands(builder, operator, name, weights, bias),
        Layout.PLAIN,
        {"transB": 1},
        activation=item.activation,
        shape=(rows, outputs),
    )


def quantize(item: Import) -> None:
    """Float to 8 bits, or from one quantisation to another."""
    (source,) = item.operands(1)
    item.expect(source.shape)
    result, layout = item.result, item.builder.layout_of(source)
    if result.dtype not in EIGHT_BIT or result.quantization is None or result.quantization.axis:
        raise item.refuse(
            f"it makes {result.dtype.value} that is not quantised as a whole",
            "quantise to int8 or uint8 with one scale",
        )
    name = item.builder.real(item.operator, source, layout)
    item.builder.add(item.operator, "Quantize", (name,), item.builder.define(result, layout))


def dequantize(item: Import) -> None:
    """8 bits to float; constants, of float16 too, become float32 constants."""
    (source,) = item.operands(1)
    item.expect(source.shape)
    result, layout = item.result, item.builder.layout_of(source)
    halves = source.dtype is DType.FLOAT16 and source.data is not None
    if result.dtype is not DType.FLOAT32 or not (halves or source.quantization):
        raise item.refuse(
            f"it makes {result.dtype.value} of {source.dtype.value} without a scale",
            "dequantise int8 or uint8, or float16 constants, to float32",
        )
    if source.data is not None:
        real = (
            source.data.astype(np.float32)
            if source.quantization is None
            else stored_to_real(source.data, source.quantization)
        )
        item.builder.settle(result, real)
        return
    item.builder.dequantize(item.operator, source, result, layout)


OPERATORS: Final[Mapping[str, Callable[[Import], None]]] = {
    **elementwise.OPERATORS,
    **images.OPERATORS,
    **movement.OPERATORS,
    **reduction.OPERATORS,
    **scaling.OPERATORS,
    "DEQUANTIZE": dequantize,
    "FULLY_CONNECTED": fully_connected,
    "QUANTIZE": quantize,
}
