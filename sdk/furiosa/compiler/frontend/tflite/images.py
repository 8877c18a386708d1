"""TensorFlow Lite operators on images: convolutions, pools, the mean and padding."""

from collections.abc import Mapping
from dataclasses import replace

from furiosa.compiler.frontend.tflite.builder import EIGHT_BIT, Layout, Padded, Pads
from furiosa.compiler.frontend.tflite.file import Tensor
from furiosa.compiler.frontend.tflite.item import Import
from furiosa.compiler.frontend.tflite.weights import double, for_npu, operands, weights_of
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
    weights = replace(weights, group=group)
    padded = item.builder.padded.get(source.index)
    pads: Pads = (0, 0, 0, 0)
    if padded is not None:
        source, pads = padded.source, padded.pads
    height, width = held.shape[1:3]
    dilations = item.option("DilationHFactor"), item.option("DilationWFactor")
    size, attributes = _window(item, source, (height, width), dilations, pads)
    item.expect((source.shape[0], *size, outputs))
    name = item.builder.stored(item.operator, source, Layout.IMAGE)
    if source.dtype in EIGHT_BIT:
        weights = for_npu(weights, depthwise)
        if weights.doubled:
            name = double(item.builder, item.operator, name)
    item.compute(
        "Conv",
        operands(item.builder, item.operator, name, weights, bias),
        Layout.IMAGE,
        {**attributes, "dilations": dilations, "group": weights.group},
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


def mean(item: Import) -> None:
    """The mean over height and width of an image."""
    source, axes = item.operands(2)
    item.image(source)
    found = sorted({axis + 4 if axis < 0 else axis for axis in item.numbers(axes).ravel().tolist()})
    if found != [1, 2]:
        raise item.refuse(f"it is over axes {found}", "only height and width, 1 and 2, can be")
    n, _, _, c = source.shape
    keep = bool(item.option("KeepDims"))
    item.expect((n, 1, 1, c) if keep else (n, c))
    name = item.builder.real(item.operator, source, Layout.IMAGE)
    layout = Layout.IMAGE if keep else Layout.PLAIN
    item.compute("GlobalAveragePool", (name,), layout, shape=(n, c, 1, 1))


def pad(item: Import) -> None:
    """Zeros around height and width; a convolution that reads the result takes them as its own."""
    source, given = item.operands(2)
    item.image(source)
    pads = item.numbers(given)
    if pads.shape != (4, 2) or pads.min() < 0 or pads[[0, 3]].any():
        raise item.refuse(f"its padding is {pads.tolist()}", "pad height and width only")
    (top, bottom), (left, right) = pads[1:3].tolist()
    n, h, w, c = source.shape
    item.expect((n, h + top + bottom, w + left + right, c))
    padded = Padded(source, (top, left, bottom, right))
    if not item.same_parameters(source):
        raise item.refuse("its result is quantised in another way than its input")
    item.builder.padded[item.result.index] = padded
