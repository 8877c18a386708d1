"""Weights and biases of convolutions and fully connected layers in the forms the NPU takes.

The NPU's weights are int8 with zero point 0. TensorFlow Lite's uint8 weights with a zero point are whole
numbers from -255 to 255. Each but 255 is the sum of two int8 numbers, so a layer that needs more than int8
runs exactly on its input with every channel twice, with half of each weight for either.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from furiosa.common.tensor import DType
from furiosa.compiler.dfg.coverage import MAX_GROUP
from furiosa.compiler.frontend.tflite.builder import EIGHT_BIT, Builder, refusal
from furiosa.compiler.frontend.tflite.file import Operator, Tensor
from furiosa.compiler.value import Array, Attributes, QuantParams

MAX_SPARSE: Final = 16 << 20  # weights of a depthwise convolution written as a grouped one


@dataclass(frozen=True, slots=True)
class Weights:
    """Stored numbers [outputs, inputs of a group, ...]; `doubled`: for an input with channels twice."""

    data: Array
    quantization: QuantParams | None
    group: int = 1
    doubled: bool = False


def weights_of(operator: Operator, tensor: Tensor, axis: int, order: tuple[int, ...]) -> Weights:
    """The constant `tensor` with its dimensions in `order`, the output channels, `axis`, first."""
    if tensor.data is None:
        raise refusal(operator, f"its weights '{tensor.name}' are not constant", "make them so")
    if tensor.dtype is not DType.FLOAT32:
        params = tensor.quantization
        if params is None or tensor.dtype not in EIGHT_BIT or params.axis not in (None, axis):
            raise refusal(
                operator,
                f"its weights '{tensor.name}' are {tensor.dtype.value}, not quantised to 8 bits as "
                "a whole or by output channel",
                "quantise the model anew",
            )
        axis_ = None if params.axis is None else 0
        quantization = QuantParams(params.scales, params.zero_points, axis_)
    else:
        quantization = None
    return Weights(np.ascontiguousarray(tensor.data.transpose(order)), quantization)


def for_npu(weights: Weights, depthwise: bool) -> Weights:
    """The same numbers with zero point 0, doubled where they leave int8.

    Left alone, and so to the host, where that makes too many or not even two int8 numbers reach 255.
    """
    params = weights.quantization
    if params is None:
        return weights
    points = np.array(params.zero_points, np.int16).reshape(-1, *(1,) * (weights.data.ndim - 1))
    numbers = weights.data.astype(np.int16) - points
    zeros = QuantParams(params.scales, (0,) * len(params.scales), params.axis)
    if numbers.min() >= -128 and numbers.max() <= 127:
        return Weights(numbers.astype(np.int8), zeros, weights.group)
    if numbers.max() > 2 * 127:
        return weights
    low = np.clip(numbers, -128, 127)
    pair = np.stack([low, numbers - low], axis=2).astype(np.int8)
    halves = pair.reshape(pair.shape[0], -1, *pair.shape[3:])  # [outputs, 2 x inputs, ...]
    if not depthwise or weights.group <= MAX_GROUP:
        return Weights(halves, zeros, weights.group, doubled=True)
    return _grouped(halves, zeros, weights.group) or weights


def _grouped(halves: Array, params: QuantParams, channels: int) -> Weights | None:
    """A doubled depthwise convolution with no more groups than the NPU takes: others' weights are 0."""
    sizes = range(-(-channels // MAX_GROUP), channels + 1)
    block = next(size for size in sizes if channels % size == 0)
    if halves.size * block > MAX_SPARSE:
        return None
    outputs = np.arange(halves.shape[0])
    place = outputs // (halves.shape[0] // channels) % block  # of its channel in its group
    sparse = np.zeros((halves.shape[0], 2 * block, *halves.shape[2:]), np.int8)
    sparse[outputs, 2 * place] = halves[:, 0]
    sparse[outputs, 2 * place + 1] = halves[:, 1]
    return Weights(sparse, params, channels // block, doubled=True)


def double(builder: Builder, operator: Operator, name: str) -> str:
    """The stored image `name` with each channel twice, side by side: exact, as its scale stays."""
    value = builder.graph.values[name]
    channels = value.shape[1]
    ones = np.ones((2 * channels, 1, 1, 1), np.int8)
    weights = builder.constant(f"{name}/ones", ones, QuantParams((1.0,), (0,)))
    shape = (value.shape[0], 2 * channels, *value.shape[2:])
    inputs = builder.dequantized(operator, name), builder.dequantized(operator, weights)
    real = builder.value(f"{name}/twice", shape)
    attributes: Attributes = {
        "group": channels,
        "kernel_shape": (1, 1),
        "strides": (1, 1),
        "dilations": (1, 1),
        "pads": (0, 0, 0, 0),
    }
    builder.add(operator, "Conv", inputs, real, attributes)
    stored = builder.value(f"{name}/doubled", shape, value.dtype, value.quantization)
    builder.add(operator, "Quantize", (real,), stored)
    return stored


def operands(
    builder: Builder, operator: Operator, source: str, weights: Weights, bias: Tensor | None
) -> tuple[str, ...]:
    """Real values of the input, the weights and, if there is one, the bias."""
    name = operator.name
    held = builder.constant(f"{name}/weights", weights.data, weights.quantization)
    inputs = builder.dequantized(operator, source), builder.dequantized(operator, held)
    if bias is None:
        return inputs
    channels = weights.data.shape[0]
    if bias.data is None or bias.data.size != channels:
        raise refusal(
            operator,
            f"its bias '{bias.name}' has shape {list(bias.shape)}, its weights make {channels} channels",
            "give it a constant with a number for each channel",
        )
    numbers = bias.data.reshape(channels)
    if bias.dtype is DType.FLOAT32:
        return *inputs, builder.constant(f"{name}/bias", numbers)
    whole = builder.graph.values[source].whole
    if bias.dtype is not DType.INT32 or whole is None or weights.quantization is None:
        raise refusal(
            operator,
            f"its bias is {bias.dtype.value}",
            "give it int32 for quantised operands, float32 for others",
        )
    # units of the sum of products, whatever the file says: TensorFlow Lite adds the numbers as they are
    units = np.float32(whole.scale) * np.array(weights.quantization.scales, np.float32)
    if not (units > 0).all():
        raise refusal(operator, "its scales are too small to multiply", "quantise the model anew")
    axis = 0 if len(units) > 1 else None
    params = QuantParams(tuple(units.tolist()), (0,) * len(units), axis)
    stored = builder.constant(f"{name}/bias", numbers, params)
    return *inputs, builder.dequantized(operator, stored)
