"""Elementwise operators in float32, rounded step by step where onnxruntime rounds.

A kernel takes the node's inputs (float32, None for one left out) and attributes and returns float32;
numpy broadcasting is ONNX broadcasting. Functions that float32 arithmetic does not have are computed in
float64 by the C library and rounded once to float32. Two C libraries differ by less than a unit in the last
place of float64, so that both round to the same float32 but for one value in 2^28; onnxruntime has its own
approximations of exp, erf and tanh, which may be off by a few units in the last place of float32.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from furiosa.common.tensor import DType
from furiosa.compiler.value import Array, Attributes, Value

Kernel = Callable[[Sequence[Array | None], Attributes], Array]

_ONE: Final = np.float32(1)
_HALF: Final = np.float32(0.5)
_SELU: Final = (1.67326319217681884765625, 1.05070102214813232421875)  # alpha, gamma of ONNX


def every_value(dtype: DType) -> Array:
    """The 256 values of an 8-bit type, from the lowest."""
    limits = np.iinfo(dtype.value)
    return np.arange(limits.min, limits.max + 1).astype(dtype.numpy)


def quantized(real: Array, result: Value) -> Array:
    """clamp(round half to even(x / scale) + zero point); what is not a number becomes the lowest."""
    whole, limits = result.whole, np.iinfo(result.dtype.value)
    assert whole is not None
    with np.errstate(all="ignore"):
        rounded = np.rint(real / np.float32(whole.scale))
    low, high = limits.min - whole.zero_point, limits.max - whole.zero_point
    clamped = np.fmin(np.fmax(rounded, np.float32(low)), np.float32(high))
    stored: Array = (clamped.astype(np.int32) + whole.zero_point).astype(result.dtype.numpy)
    return stored


def _by_element(function: Callable[..., float], operands: int = 1) -> Callable[..., Array]:
    """`function` on Python floats for each element, with the limits of IEEE 754 instead of errors."""

    def limited(*numbers: float) -> float:
        if any(map(math.isnan, numbers)):
            return math.nan
        try:
            return function(*numbers)
        except OverflowError:
            return math.inf
        except ValueError:
            return math.nan

    ufunc = np.frompyfunc(limited, operands, 1)

    def kernel(*inputs: Array) -> Array:
        return np.asarray(ufunc(*(x.astype(np.float64) for x in inputs))).astype(np.float32)

    return kernel


def _power(base: float, exponent: float) -> float:
    infinity = math.copysign(math.inf, base) if exponent % 2 == 1 else math.inf
    if base == 0 and exponent < 0:
        return infinity
    try:
        return math.pow(base, exponent)
    except OverflowError:
        return infinity


_exp = _by_element(math.exp)
_log = _by_element(lambda x: math.log(x) if x else -math.inf)
_log1p = _by_element(math.log1p)
_erf = _by_element(math.erf)
_tanh = _by_element(math.tanh)
_sigmoid = _by_element(lambda x: math.exp(min(x, 0.0)) / (1 + math.exp(-abs(x))))
_pow = _by_element(_power, 2)


def _f32(attributes: Attributes, key: str, default: float) -> np.float32:
    found = attributes.get(key, default)
    assert isinstance(found, int | float)
    return np.float32(found)


def _plain(function: Callable[..., Array]) -> Kernel:
    return lambda inputs, attributes: function(*inputs)


def _all(function: Callable[[Array, Array], Array]) -> Kernel:
    """From left to right over any number of inputs."""

    def kernel(inputs: Sequence[Array | None], attributes: Attributes) -> Array:
        first, *rest = (x for x in inputs if x is not None)
        for other in rest:
            first = function(first, other)
        return first

    return kernel


def _mean(inputs: Sequence[Array | None], attributes: Attributes) -> Array:
    total = _all(np.add)(inputs, attributes)
    return total / np.float32(len(inputs))


def _clip(inputs: Sequence[Array | None], attributes: Attributes) -> Array:
    x, low, high = (*inputs, None, None)[:3]
    assert x is not None
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


def _leaky_relu(inputs: Sequence[Array | None], attributes: Attributes) -> Array:
    (x,) = inputs
    assert x is not None
    return np.where(x >= 0, x, x * _f32(attributes, "alpha", 0.01))


def _prelu(x: Array, slope: Array) -> Array:
    return np.where(x > 0, x, x * slope)


def _elu(inputs: Sequence[Array | None], attributes: Attributes) -> Array:
    (x,) = inputs
    assert x is not None
    return np.where(x >= 0, x, _f32(attributes, "alpha", 1) * (_exp(x) - _ONE))


def _selu(inputs: Sequence[Array | None], attributes: Attributes) -> Array:
    (x,) = inputs
    assert x is not None
    alpha, gamma = (
        _f32(attributes, key, default)
        for key, default in zip(("alpha", "gamma"), _SELU, strict=True)
    )
    return np.asarray(gamma * np.where(x > 0, x, alpha * _exp(x) - alpha))


def _celu(inputs: Sequence[Array | None], attributes: Attributes) -> Array:
    (x,) = inputs
    assert x is not None
    alpha = _f32(attributes, "alpha", 1)
    below = alpha * (_exp(x / alpha) - _ONE)
    return np.asarray(np.maximum(x, 0) + np.minimum(below, 0))


def _softplus(x: Array) -> Array:
    return np.where(x > 0, x + _log1p(_exp(-x)), _log1p(_exp(x)))


def _hard_sigmoid(inputs: Sequence[Array | None], attributes: Attributes) -> Array:
    (x,) = inputs
    assert x is not None
    line = _f32(attributes, "alpha", 0.2) * x + _f32(attributes, "beta", 0.5)
    return np.asarray(np.clip(line, np.float32(0), _ONE))


def _hard_swish(x: Array) -> Array:
    return np.asarray(x * np.clip(x * np.float32(1 / 6) + _HALF, np.float32(0), _ONE))


def _gelu(inputs: Sequence[Array | None], attributes: Attributes) -> Array:
    (x,) = inputs
    assert x is not None
    if attributes.get("approximate", "none") == "tanh":
        inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * (x * x * x))
        return _HALF * x * (_ONE + _tanh(inner))
    return _HALF * x * (_ONE + _erf(x * np.float32(math.sqrt(0.5))))


def _thresholded_relu(inputs: Sequence[Array | None], attributes: Attributes) -> Array:
    (x,) = inputs
    assert x is not None
    return np.where(x > _f32(attributes, "alpha", 1), x, np.float32(0))


def _power_of(x: Array, exponent: Array) -> Array:
    if exponent.size == 1 and exponent.ravel()[0] in (2, 3):
        return x * x if exponent.ravel()[0] == 2 else x * x * x
    return _pow(x, exponent)


def _batch_norm(inputs: Sequence[Array | None], attributes: Attributes) -> Array:
    """Inputs after x are columns along the channels already."""
    x, scale, shift, mean, variance = inputs
    assert x is not None
    assert scale is not None
    assert shift is not None
    assert mean is not None
    assert variance is not None
    factor = scale * (_ONE / np.sqrt(variance + _f32(attributes, "epsilon", 1e-5)))
    return x * factor + (shift - mean * factor)


KERNELS: Final[Mapping[str, Kernel]] = {
    "Abs": _plain(np.abs),
    "Add": _plain(np.add),
    "BatchNormalization": _batch_norm,
    "Ceil": _plain(np.ceil),
    "Celu": _celu,
    "Clip": _clip,
    "Div": _plain(np.divide),
    "Elu": _elu,
    "Erf": _plain(_erf),
    "Exp": _plain(_exp),
    "Floor": _plain(np.floor),
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _plain(_hard_swish),
    "Identity": _plain(np.asarray),
    "LeakyRelu": _leaky_relu,
    "Log": _plain(_log),
    "Max": _all(np.maximum),
    "Mean": _mean,
    "Min": _all(np.minimum),
    "Mish": _plain(lambda x: x * _tanh(_softplus(x))),
    "Mul": _plain(np.multiply),
    "Neg": _plain(np.negative),
    "PRelu": _plain(_prelu),
    "Pow": _plain(_power_of),
    "Reciprocal": _plain(np.reciprocal),
    "Relu": _plain(lambda x: np.maximum(x, np.float32(0))),
    "Round": _plain(np.rint),
    "Selu": _selu,
    "Sigmoid": _plain(_sigmoid),
    "Sign": _plain(np.sign),
    "Softplus": _plain(_softplus),
    "Softsign": _plain(lambda x: x / (_ONE + np.abs(x))),
    "Sqrt": _plain(np.sqrt),
    "Sub": _plain(np.subtract),
    "Sum": _all(np.add),
    "Tanh": _plain(_tanh),
    "ThresholdedRelu": _thresholded_relu,
}
