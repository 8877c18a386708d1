"""TensorFlow Lite operators on windows of images: convolutions and pools."""

from collections.abc import Callable, Mapping
from typing import Final

from furiosa.compiler.frontend.tflite.builder import Layout, Pads
from furiosa.compiler.frontend.tflite.file import Tensor
from furiosa.compiler.frontend.tflite.item import Import
from furiosa.compiler.frontend.tflite.weights import operands, weights_of
from furiosa.compiler.value import Attribute

_SAME, _VALID = 0, 1  # Source: Padding of the schema


def _window(
    item: Import, source: Tensor, kernel: tuple[int, int], dilations: tuple[int, int], pads: Pads
) -> tuple[tuple[int, ...], dict[str, Attribute]]:
    """Height and width of the result, and the ONNX attributes; `pads` were there before."""
    item.image(source)
    strides = item.option("StrideH"), item.option("StrideW")
    padding = item.option("Padding")
    if min(*strides, *kernel, *dilations) < 1 or padding not in (_SAME, _VALID):
        raise item.refuse(
            f"its kernel {list(kernel)}, strides {list(strides)}, dilations {list(dilations)} and "
            f"padding {padding} make no window"
        )
    begin, end, result = [], [], []
    columns = zip(source.shape[1:3], pads[:2], pads[2:], kernel, strides, dilations, strict=True)
    for size, before, after, k, stride, dilation in columns:
        covered, padded = dilation * (k - 1) + 1, size + before + after
        if padding == _SAME:
            result.append(-(-padded // stride))
            missing = max((result[-1] - 1) * stride + covered - padded, 0)
        else:
            result.append((padded - covered) // stride + 1)
            missing = 0
        if result[-1] < 1:
            raise item.refuse(f"its window of {covered} is larger than its input of {padded}")
        begin.append(before + missing // 2)
        end.append(after + missing - missing // 2)
    attributes: dict[str, Attribute] = {
        "kernel_shape": kernel,
        "strides": strides,
        "pads": (*begin, *end),
    }
    return tuple(result), attributes


def _convolution(item: Import, depthwise: bool) -> None:
    source, held, bias = item.inputs(2, 3)
    assert source is not None
    assert held is not None
    item.image(source)
    item.image(held)
    order, axis = ((3, 0, 1, 2), 3) if depthwise else ((0, 3, 1, 2), 0)
    weights = weights_of(item.operator, held, axis, order)
    outputs, inputs = weights.data.shape[:2]
    channels = source.shape[3]
    group = channels if depthwise else channels // inputs
    if channels != inputs * group or outputs % max(group, 1) or group < 1:
        raise item.refuse(
            f"its input has {channels} channels, its weights have shape {list(held.shape)}"
        )
    padded = item.builder.padded.get(source.index)
    pads: Pads = (0, 0, 0, 0)
    if padded is not None:
        source, pads = padded.source, padded.pads
    height, width = held.shape[1:3]
    dilations = item.option("DilationHFactor"), item.option("DilationWFactor")
    size, attributes = _window(item, source, (height, width), dilations, pads)
    item.expect((source.shape[0], *size, outputs))
    name = item.builder.stored(item.operator, source, Layout.IMAGE)
    item.compute(
        "Conv",
        operands(item.builder, item.operator, name, weights, bias),
        Layout.IMAGE,
        {**attributes, "dilations": dilations, "group": group},
        activation=item.activation,
    )


def conv_2d(item: Import) -> None:
    _convolution(item, depthwise=False)


def depthwise_conv_2d(item: Import) -> None:
    _convolution(item, depthwise=True)


def average_pool_2d(item: Import) -> None:
    _pool(item, "AveragePool", {})


def max_pool_2d(item: Import) -> None:
    _pool(item, "MaxPool", {"dilations": (1, 1)})


def _pool(item: Import, op: str, attributes: Mapping[str, Attribute]) -> None:
    (source,) = item.operands(1)
    kernel = item.option("FilterHeight"), item.option("FilterWidth")
    size, window = _window(item, source, kernel, (1, 1), (0, 0, 0, 0))
    item.expect((source.shape[0], *size, source.shape[3]))
    name = item.builder.real(item.operator, source, Layout.IMAGE)
    item.compute(op, (name,), Layout.IMAGE, {**window, **attributes}, activation=item.activation)


OPERATORS: Final[Mapping[str, Callable[[Import], None]]] = {
    "AVERAGE_POOL_2D": average_pool_2d,
    "CONV_2D": conv_2d,
    "DEPTHWISE_CONV_2D": depthwise_conv_2d,
    "MAX_POOL_2D": max_pool_2d,
}
