"""Weights and biases of a QDQ model as the integers the NPU takes."""

from collections.abc import Mapping

import numpy as np

from furiosa.common.tensor import DType
from furiosa.compiler.dfg.ir import Dfg, Node
from furiosa.compiler.value import Array, QuantParams


def weights_of(
    graph: Dfg, producers: Mapping[str, Node], name: str, out_axis: int
) -> tuple[Array, QuantParams] | None:
    """Constant weights that `name` dequantises: int8, zero point 0, output channels in axis 0.

    uint8 with zero point 128 is the same numbers moved by 128. None for anything else.
    """
    source = producers.get(name)
    if source is None or source.op != "Dequantize":
        return None
    value = graph.values[source.inputs[0]]
    data, params = value.data, value.quantization
    if data is None or params is None or params.axis not in (None, out_axis):
        return None
    match value.dtype, set(params.zero_points):
        case DType.INT8, points if points == {0}:
            pass
        case DType.UINT8, points if points == {128}:
            data = (data.astype(np.int16) - 128).astype(np.int8)
        case _:
            return None
    axis = None if params.axis is None else 0
    data = np.ascontiguousarray(np.moveaxis(data, out_axis, 0))
    return data, QuantParams(params.scales, (0,) * len(params.scales), axis)


def bias_of(
    graph: Dfg, producers: Mapping[str, Node], name: str, units: Array, channels: int
) -> Array | None:
    """The bias that `name` is or dequantises as int32 [channels], in `units` (float32, [1] or [channels]).

    Taken as it is when it is stored in these units, else rounded to them. None when it is no constant,
    has another size, does not lie along the last axis or does not fit int32.
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
        exact = value.dtype is DType.INT32 and not points.any()
        if exact and np.allclose(scales, units, rtol=1e-5, atol=0):
            return np.broadcast_to(data, (channels,))
        real = (data.astype(np.float64) - points) * scales
    else:
        return None
    rounded = np.broadcast_to(np.rint(real / units), (channels,))
    if not (np.abs(rounded) < 2**31).all():
        return None
    bias: Array = rounded.astype(np.int32)
    return bias
