"""What folding constants can compute: numpy forms of the operators that occur on constants.

A kernel takes the node's inputs (None for one left out) and attributes, and the result's dtype and
shape; it returns the result or None when it does not cover the case. ONNX semantics.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from furiosa.compiler.value import Array, Attributes, QuantParams, Value

Kernel = Callable[[Sequence[Array | None], Attributes, Value], Array | None]


def _plain(function: Callable[..., Array]) -> Kernel:
    """Inputs as they are; numpy broadcasting is ONNX broadcasting."""

    def kernel(inputs: Sequence[Array | None], attributes: Attributes, result: Value) -> Array:
        return function(*inputs)

    return kernel


def _divide(inputs: Sequence[Array | None], attributes: Attributes, result: Value) -> Array | None:
    """Floats only: ONNX integers round towards zero and may not be divided by zero."""
    left, right = inputs
    if left is None or right is None or left.dtype.kind != "f":
        return None
    return np.divide(left, right)


def _cast(inputs: Sequence[Array | None], attributes: Attributes, result: Value) -> Array | None:
    (data,) = inputs
    if data is None or (data.dtype.kind == "f" and result.dtype.numpy.kind != "f"):
        return None  # what a float outside the integer range becomes is undefined
    return data.astype(result.dtype.numpy)


def _transpose(inputs: Sequence[Array | None], attributes: Attributes, result: Value) -> Array:
    return np.transpose(inputs[0], attributes.get("perm"))  # type: ignore[arg-type]  # checked by ONNX


def _concat(inputs: Sequence[Array | None], attributes: Attributes, result: Value) -> Array:
    return np.concatenate(inputs, axis=attributes["axis"])  # type: ignore[arg-type]  # checked by ONNX


def _gather(inputs: Sequence[Array | None], attributes: Attributes, result: Value) -> Array | None:
    data, indices = inputs
    axis = attributes.get("axis", 0)
    if data is None or indices is None or not isinstance(axis, int):
        return None
    return np.take(data, indices, axis=axis)  # negative indices count from the end, as in ONNX


def _reshape(inputs: Sequence[Array | None], attributes: Attributes, result: Value) -> Array:
    assert inputs[0] is not None
    return inputs[0].reshape(result.shape)


def _expand(inputs: Sequence[Array | None], attributes: Attributes, result: Value) -> Array:
    assert inputs[0] is not None
    return np.broadcast_to(inputs[0], result.shape)


def _fill(inputs: Sequence[Array | None], attributes: Attributes, result: Value) -> Array:
    value = attributes.get("value", np.zeros(1, np.float32))
    return np.full(result.shape, np.ravel(value)[0], result.dtype.numpy)


def along(axis: int | None, numbers: Sequence[float], rank: int) -> Array:
    """`numbers` shaped so that they broadcast along `axis` of a tensor of that rank."""
    shape = [1] * rank
    if axis is not None:
        shape[axis] = len(numbers)
    return np.array(numbers).reshape(shape)


def dequantize(data: Array, params: QuantParams) -> Array:
    """float32(stored - zero point) * scale, each step in float32 as in ONNX."""
    points = along(params.axis, params.zero_points, data.ndim)
    scales = along(params.axis, params.scales, data.ndim).astype(np.float32)
    return (data.astype(np.int64) - points).astype(np.float32) * scales


def quantize(data: Array, params: QuantParams, result: Value) -> Array:
    """clamp(round half to even(x / scale) + zero point)."""
    limits = np.iinfo(result.dtype.value)
    points = along(params.axis, params.zero_points, data.ndim)
    scales = along(params.axis, params.scales, data.ndim).astype(np.float32)
    rounded = np.rint(data / scales).astype(np.float64) + points
    return np.clip(rounded, limits.min, limits.max).astype(result.dtype.numpy)


KERNELS: Final[Mapping[str, Kernel]] = {
    "Add": _plain(np.add),
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _fill,
    "Div": _divide,
    "Expand": _expand,
    "Gather": _gather,
    "Identity": _plain(np.asarray),
    "Mul": _plain(np.multiply),
    "Neg": _plain(np.negative),
    "Reshape": _reshape,
    "Sqrt": _plain(np.sqrt),
    "Sub": _plain(np.subtract),
    "Transpose": _transpose,
}
