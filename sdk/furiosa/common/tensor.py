"""Tensor types: element types, quantisation, and what a program says of its inputs and outputs."""

import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Self

# numpy is imported on use: the command-line tools share this vocabulary and must start fast
if TYPE_CHECKING:
    import numpy as np


class DType(Enum):
    """Element type; the value is its numpy name."""

    FLOAT32 = "float32"
    INT8 = "int8"
    UINT8 = "uint8"
    INT32 = "int32"
    INT64 = "int64"
    FLOAT16 = "float16"
    INT16 = "int16"
    BOOL = "bool"

    @property
    def numpy(self) -> "np.dtype[Any]":
        import numpy as np

        return np.dtype(self.value)

    @property
    def itemsize(self) -> int:
        return _ITEMSIZE[self]

    @classmethod
    def of(cls, dtype: "np.dtype[Any] | type[Any] | str") -> Self:
        """Raises: ValueError for a numpy type that has no counterpart here."""
        import numpy as np

        exact = np.dtype(dtype)
        if exact not in _KNOWN:  # asking numpy for a name is slow
            _KNOWN[exact] = DType(exact.name)
        return cls(_KNOWN[exact])


_KNOWN: "dict[np.dtype[Any], DType]" = {}
_ITEMSIZE = {
    DType.FLOAT32: 4,
    DType.INT8: 1,
    DType.UINT8: 1,
    DType.INT32: 4,
    DType.INT64: 8,
    DType.FLOAT16: 2,
    DType.INT16: 2,
    DType.BOOL: 1,
}


@dataclass(frozen=True, slots=True)
class Quantization:
    """real = scale * (stored - zero_point), for the whole tensor. `scale` is a float32 value."""

    scale: float
    zero_point: int


AXES: Final = "NCHW?"  # batch, channel, height, width, unknown


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A program input or output. `shape` is in elements and never dynamic.

    `axes` has one letter of AXES for each dimension; empty: an image is NCHW, of other ranks nothing is
    known. `extent` is how much of each dimension holds data, the rest is padding; empty: all of it.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    quantization: Quantization | None = None
    axes: str = ""
    extent: tuple[int, ...] = ()

    @property
    def length(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.length * self.dtype.itemsize
