"""TensorFlow Lite operators to dfg nodes: one function each, and one table of what is supported."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from furiosa.common.tensor import DType
from furiosa.compiler.dfg.fold_kernels import dequantize as stored_to_real
from furiosa.compiler.frontend.tflite import images
from furiosa.compiler.frontend.tflite.builder import EIGHT_BIT, Layout, layout_of, nchw
from furiosa.compiler.frontend.tflite.item import Import
from furiosa.compiler.frontend.tflite.weights import double, for_npu, operands, weights_of


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
    if source.dtype in EIGHT_BIT:
        weights = for_npu(weights, depthwise=False)
        if weights.doubled:
            pixels = builder.reshaped(operator, name, (rows, depth, 1, 1))
            name, depth = double(builder, operator, pixels), 2 * depth
    name = builder.reshaped(operator, name, (rows, depth))
    item.compute(
        "Gemm",
        operands(builder, operator, name, weights, bias),
        Layout.PLAIN,
        {"transB": 1},
        activation=item.activation,
        shape=(rows, outputs),
    )


def add(item: Import) -> None:
    """Two tensors with broadcasting, which goes by the last dimensions as the file has them."""
    left, right = item.operands(2)
    try:
        item.expect(np.broadcast_shapes(left.shape, right.shape))
    except ValueError:
        raise item.refuse(
            f"its operands {list(left.shape)} and {list(right.shape)} do not broadcast"
        ) from None
    layout = layout_of(item.result)
    if any(layout_of(tensor) is not layout for tensor in (left, right)):
        layout = Layout.PLAIN
    names = tuple(item.builder.real(item.operator, tensor, layout) for tensor in (left, right))
    item.compute("Add", names, layout, activation=item.activation)


def reshape(item: Import) -> None:
    """The result's shape is all there is to know; what is stored stays."""
    source, _ = item.inputs(1, 2)
    assert source is not None
    shape = item.result.shape
    if math.prod(shape) != math.prod(source.shape) or source.dtype is not item.result.dtype:
        raise item.refuse(
            f"it makes {item.result.dtype.value}{list(shape)} of "
            f"{source.dtype.value}{list(source.shape)}"
        )
    item.builder.views[item.result.index] = item.builder.views.get(source.index, source)


def softmax(item: Import) -> None:
    (source,) = item.operands(1)
    beta = item.operator.options.get("Beta", 0.0)
    if beta != 1:
        raise item.refuse(f"its beta is {beta}", "only 1 is taken")
    item.expect(source.shape)
    layout = layout_of(source)
    name = item.builder.real(item.operator, source, layout)
    item.compute("Softmax", (name,), layout, {"axis": 1 if layout is Layout.IMAGE else -1})


def _elementwise(item: Import, op: str, bounds: tuple[float, ...] = ()) -> None:
    (source,) = item.operands(1)
    item.expect(source.shape)
    layout = layout_of(source)
    name = item.builder.real(item.operator, source, layout)
    limits = tuple(
        item.builder.constant(f"{item.result.name}/bound", np.array(bound, np.float32))
        for bound in bounds
    )
    item.compute(op, (name, *limits), layout)


def relu(item: Import) -> None:
    _elementwise(item, "Relu")


def relu6(item: Import) -> None:
    _elementwise(item, "Clip", (0.0, 6.0))


def quantize(item: Import) -> None:
    """Float to 8 bits, or from one quantisation to another."""
    (source,) = item.operands(1)
    item.expect(source.shape)
    result, layout = item.result, layout_of(source)
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
    result, layout = item.result, layout_of(source)
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


def concatenation(item: Import) -> None:
    count = len(item.operator.inputs)
    sources = item.operands(count)
    rank = len(item.result.shape)
    if not sources or any(len(tensor.shape) != rank for tensor in sources) or not rank:
        raise item.refuse(f"its operands have shapes {[list(t.shape) for t in sources]}")
    axis = item.option("Axis")
    if not -rank <= axis < rank:
        raise item.refuse(f"its axis is {axis} of {rank}")
    axis %= rank
    shape = list(sources[0].shape)
    shape[axis] = sum(tensor.shape[axis] for tensor in sources)
    for tensor in sources:
        if [*tensor.shape[:axis], *tensor.shape[axis + 1 :]] != shape[:axis] + shape[axis + 1 :]:
            raise item.refuse(f"its operands have shapes {[list(t.shape) for t in sources]}")
    item.expect(tuple(shape))
    layout = layout_of(item.result)
    names = tuple(item.builder.real(item.operator, tensor, layout) for tensor in sources)
    place = nchw((0, 1, 2, 3)).index(axis) if layout is Layout.IMAGE else axis
    item.compute("Concat", names, layout, {"axis": place}, activation=item.activation)


OPERATORS: Final[Mapping[str, Callable[[Import], None]]] = {
    "ADD": add,
    "AVERAGE_POOL_2D": images.average_pool_2d,
    "CONCATENATION": concatenation,
    "CONV_2D": images.conv_2d,
    "DEPTHWISE_CONV_2D": images.depthwise_conv_2d,
    "DEQUANTIZE": dequantize,
    "FULLY_CONNECTED": fully_connected,
    "MAX_POOL_2D": images.max_pool_2d,
    "MEAN": images.mean,
    "PAD": images.pad,
    "QUANTIZE": quantize,
    "RELU": relu,
    "RELU6": relu6,
    "RESHAPE": reshape,
    "SOFTMAX": softmax,
}
