"""TensorFlow Lite operators that make images larger or smaller."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from furiosa.common.tensor import DType
from furiosa.compiler.frontend.tflite.builder import EIGHT_BIT, Layout, nchw
from furiosa.compiler.frontend.tflite.file import Tensor
from furiosa.compiler.frontend.tflite.item import Import
from furiosa.compiler.value import QuantParams


def _resized(item: Import) -> Tensor:
    """The image that is brought to the size given, which is that of the result."""
    source, _ = item.operands(2)
    item.image(source)
    item.image(item.result)
    item.expect((source.shape[0], *item.result.shape[1:3], source.shape[3]))
    return source


def resize_bilinear(item: Import) -> None:
    source = _resized(item)
    mode = "asymmetric"
    if item.option("AlignCorners"):
        mode = "align_corners"
    elif item.option("HalfPixelCenters"):
        mode = "half_pixel"
    name = item.builder.real(item.operator, source, Layout.IMAGE)
    sizes = np.array(nchw(item.result.shape), np.int64)
    given = item.builder.constant(f"{item.result.name}/sizes", sizes)
    attributes = {"mode": "linear", "coordinate_transformation_mode": mode}
    item.compute("Resize", (name, "", "", given), Layout.IMAGE, attributes)


def resize_nearest_neighbor(item: Import) -> None:
    """Rows and columns chosen as TensorFlow Lite chooses them, in float32."""
    source = _resized(item)
    align, half = bool(item.option("AlignCorners")), bool(item.option("HalfPixelCenters"))
    chosen = {}
    for axis in (1, 2):
        before, after = source.shape[axis], item.result.shape[axis]
        corners = align and after > 1
        scale = np.float32(before - corners) / np.float32(after - corners)
        where = (np.arange(after, dtype=np.float32) + np.float32(0.5 * half)) * scale
        nearest = np.floor(where + np.float32(0.5)) if align else np.floor(where)
        chosen[axis] = np.clip(nearest, 0, before - 1).astype(np.int64)
    item.chosen(source, chosen, item.builder.layout_of(source))


def depth_to_space(item: Import) -> None:
    (source,) = item.operands(1)
    item.image(source)
    size = item.option("BlockSize")
    n, h, w, c = source.shape
    if size < 1 or c % (size * size):
        raise item.refuse(f"it makes blocks of {size} x {size} of {c} channels")
    item.expect((n, h * size, w * size, c // (size * size)))
    name = item.builder.real(item.operator, source, Layout.IMAGE)
    item.compute("DepthToSpace", (name,), Layout.IMAGE, {"blocksize": size, "mode": "DCR"})


def space_to_depth(item: Import) -> None:
    (source,) = item.operands(1)
    item.image(source)
    size = item.option("BlockSize")
    n, h, w, c = source.shape
    if size < 1 or h % size or w % size:
        raise item.refuse(f"it makes blocks of {size} x {size} of {h} x {w}")
    item.expect((n, h // size, w // size, c * size * size))
    name = item.builder.real(item.operator, source, Layout.IMAGE)
    item.compute("SpaceToDepth", (name,), Layout.IMAGE, {"blocksize": size})


def transpose_conv(item: Import) -> None:
    """Weights are [outputs, height, width, inputs]. The result's size says how much is cropped."""
    _, held, source, bias = item.inputs(3, 4)
    assert held is not None
    assert source is not None
    for tensor in (held, source, item.result):
        item.image(tensor)
    outputs, height, width, inputs = held.shape
    n, h, w, c = source.shape
    if c != inputs:
        raise item.refuse(f"its input has {c} channels, its weights {inputs}")
    item.expect((n, *item.result.shape[1:3], outputs))
    strides = item.option("StrideH"), item.option("StrideW")
    begin, end, more = [], [], []
    columns = zip((h, w), item.result.shape[1:3], (height, width), strides, strict=True)
    for size, after, k, stride in columns:
        total = (size - 1) * stride + k - after
        if stride < 1 or total < 1 - stride:
            raise item.refuse(f"it makes {after} of {size} by a kernel of {k} and strides {stride}")
        begin.append(max(total, 0) // 2)
        end.append(max(total, 0) - begin[-1])
        more.append(max(-total, 0))
    item.compute(
        "ConvTranspose",
        (
            item.builder.real(item.operator, source, Layout.IMAGE),
            *_weights(item, held, bias, source),
        ),
        Layout.IMAGE,
        {
            "kernel_shape": (height, width),
            "strides": strides,
            "pads": (*begin, *end),
            "output_padding": tuple(more),
        },
        activation=item.activation,
    )


def _weights(item: Import, held: Tensor, bias: Tensor | None, source: Tensor) -> tuple[str, ...]:
    """Real values of the weights, [inputs, outputs, height, width], and of the bias if there is one."""
    params = held.quantization
    if held.data is None:
        raise item.refuse(f"its weights '{held.name}' are not constant", "make them so")
    if held.dtype is not DType.FLOAT32 and (
        params is None or held.dtype not in EIGHT_BIT or params.axis not in (None, 0)
    ):
        raise item.refuse(f"its weights '{held.name}' are {held.dtype.value}")
    if params is not None and params.axis == 0:
        params = QuantParams(params.scales, params.zero_points, 1)
    data = held.data.transpose(3, 0, 1, 2)
    name = item.builder.constant(f"{item.operator.name}/weights", data, params)
    names = [item.builder.dequantized(item.operator, name)]
    if bias is not None:
        if bias.data is None or bias.data.size != held.shape[0]:
            raise item.refuse(f"its bias '{bias.name}' has shape {list(bias.shape)}")
        numbers = bias.data.ravel()
        whole = None if source.quantization is None else source.quantization.whole
        stored = None
        if bias.dtype is DType.INT32 and whole is not None and params is not None:
            # units of the sum of products, whatever the file says
            units = np.float32(whole.scale) * np.array(params.scales, np.float32)
            axis = 0 if len(units) > 1 else None
            stored = QuantParams(tuple(units.tolist()), (0,) * len(units), axis)
        elif bias.dtype is not DType.FLOAT32:
            raise item.refuse(f"its bias is {bias.dtype.value}")
        name = item.builder.constant(f"{item.operator.name}/bias", numbers, stored)
        names.append(item.builder.dequantized(item.operator, name))
    return tuple(names)


OPERATORS: Final[Mapping[str, Callable[[Import], None]]] = {
    "DEPTH_TO_SPACE": depth_to_space,
    "RESIZE_BILINEAR": resize_bilinear,
    "RESIZE_NEAREST_NEIGHBOR": resize_nearest_neighbor,
    "SPACE_TO_DEPTH": space_to_depth,
    "TRANSPOSE_CONV": transpose_conv,
}
