"""Weights and biases of a QDQ model as the integers the NPU takes."""

from collections.abc import Mapping

import numpy as np

from furiosa.common.tensor import DType
from furiosa.compiler.dfg.fold_kernels import along
from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.dfg.operators import EIGHT_BIT
from furiosa.compiler.value import Array, QuantParams


def weights_of(
    graph: Dfg, producers: Mapping[str, Node], name: str, out_axis: int
) -> tuple[Array, QuantParams] | None:
    """Constant 8-bit weights that `name` dequantises as int8, output channels in axis 0.

    They are the same numbers with zero point 0 where these are int8, else, moved into int8, with the one
    zero point that they all have. None for anything else.
    """
    source = producers.get(name)
    if source is None or source.op != "Dequantize":
        return None
    value = graph.values[source.inputs[0]]
    data, params = value.data, value.quantization
    if data is None or params is None or params.axis not in (None, out_axis):
        return None
    if value.dtype not in EIGHT_BIT:
        return None
    points = along(params.axis, params.zero_points, data.ndim)
    numbers = data.astype(np.int16) - points.astype(np.int16)
    point = 0
    if numbers.min() < -128 or numbers.max() > 127:
        if len(set(params.zero_points)) > 1:
            return None
        point = params.zero_points[0] - (128 if value.dtype is DType.UINT8 else 0)
    axis = None if params.axis is None else 0
    moved = np.moveaxis((numbers + point).astype(np.int8), out_axis, 0)
    return np.ascontiguousarray(moved), QuantParams(
        params.scales, (point,) * len(params.scales), axis
    )


def bias_of(
    graph: Dfg,
    producers: Mapping[str, Node],
    name: str,
    units: Array,
    channels: int,
    factor: float = 1.0,
) -> Array | None:
    """`factor` times the bias that `name` is or dequantises, as int32 [channels] in `units`.

    Units are float32, [1] or [channels]. Taken as it is when it is stored in these units, else rounded to
    them. None when it is no constant, has another size, does not lie along the last axis or does not fit
    int32.
    """
    source = producers.get(name)
    value = graph.values[name if source is None else source.inputs[0]]
    if value.data is None or value.data.size not in (1, channels):
        return None
    if value.data.shape[-1:] not in ((), (value.data.size,)):
        return None  # a column, one number for each row of the result
    data = value.data.ravel()
    if source is None:
        real = data.astype(np.float64)
    elif source.op == "Dequantize" and value.quantization is not None:
        scales = np.array(value.quantization.scales, np.float32)
        points = np.array(value.quantization.zero_points)
        exact = value.dtype is DType.INT32 and not points.any() and factor == 1
        if exact and np.allclose(scales, units, rtol=1e-5, atol=0):
            return np.broadcast_to(data, (channels,))
        real = (data.astype(np.float64) - points) * scales
    else:
        return None
    rounded = np.broadcast_to(np.rint(real * factor / units), (channels,))
    if not (np.abs(rounded) < 2**31).all():
        return None
    bias: Array = rounded.astype(np.int32)
    return bias
