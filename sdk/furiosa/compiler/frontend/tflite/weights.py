"""Weights and biases of convolutions and fully connected layers in the order that ONNX has them."""

from dataclasses import dataclass

import numpy as np

from furiosa.common.tensor import DType
from furiosa.compiler.frontend.tflite.builder import EIGHT_BIT, Builder, refusal
from furiosa.compiler.frontend.tflite.file import Operator, Tensor
from furiosa.compiler.value import Array, QuantParams


@dataclass(frozen=True, slots=True)
class Weights:
    """Stored numbers [outputs, inputs of a group, ...]."""

    data: Array
    quantization: QuantParams | None


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
