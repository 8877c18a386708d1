"""What every IR says of a tensor, and what it says of the model as a whole."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from furiosa.common.tensor import DType, Quantization

Array = npt.NDArray[Any]
Attribute = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | Array
Attributes = Mapping[str, Attribute]


@dataclass(frozen=True, slots=True)
class QuantParams:
    """real = scale * (stored - zero point), for the whole tensor or for each index of `axis`.

    Scales are float32 values, finite and positive; as many zero points as scales.
    """

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int | None = None

    @property
    def whole(self) -> Quantization | None:
        """The one pair that holds for the whole tensor, or None."""
        return Quantization(self.scales[0], self.zero_points[0]) if self.axis is None else None


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A tensor; `data` is set for constants and then read-only, of this dtype and shape."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    quantization: QuantParams | None = None
    data: Array | None = None

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def whole(self) -> Quantization | None:
        """Quantisation of the whole tensor, or None."""
        return None if self.quantization is None else self.quantization.whole


def constant(name: str, data: Array, quantization: QuantParams | None = None) -> Value:
    """Raises: ValueError for an element type the project does not have."""
    data = np.ascontiguousarray(data).reshape(data.shape)  # the former turns rank 0 into rank 1
    if data.flags.writeable:
        data = data.copy()
        data.flags.writeable = False
    return Value(name, DType.of(data.dtype), data.shape, quantization, data)


@dataclass(frozen=True, slots=True)
class PortForm:
    """How the caller sees the input or output `port`: `axes` and `extent` as of a TensorSpec."""

    port: str
    axes: str
    extent: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What travels with the model from the source to the program.

    `forms` are those of the ports that are other than the rest: images as NCHW, all of them data.
    """

    name: str
    opset: int  # version of the ONNX default domain that operator names and attributes refer to
    batch: int
    sha256: bytes  # of the source file
    forms: tuple[PortForm, ...] = ()

    def form(self, port: str) -> PortForm:
        return next((form for form in self.forms if form.port == port), PortForm(port, ""))

    def with_form(self, form: PortForm) -> "ModelInfo":
        """With that form in place of the port's own."""
        others = (each for each in self.forms if each.port != form.port)
        return replace(self, forms=(*others, form))
