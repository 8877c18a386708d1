"""What a model says of itself: data types, axes, tensors, and their text forms.

Source: runtime reference 6. The texts are part of the API.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, EnumMeta
from typing import Any

import numpy as np

from furiosa.common.tensor import TensorSpec


class Axis(Enum):
    """Meaning of a dimension, for diagnostics only."""

    WIDTH = "W"
    HEIGHT = "H"
    CHANNEL = "C"
    BATCH = "N"
    UNKNOWN = "?"


class _OfAnything(EnumMeta):
    """Lets `DataType(x)` take whatever names a type. An Enum's own lookup trips over arrays."""

    def __call__(cls, value: Any, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(_name_of(value), *args, **kwargs)


_BFLOAT16 = "bfloat16"  # no numpy type of that name


def _name_of(value: Any) -> Any:
    if isinstance(value, DataType) or (isinstance(value, str) and value == _BFLOAT16):
        return value
    try:
        if value is None:  # numpy would take it for float64
            raise TypeError
        if isinstance(value, (np.ndarray, np.generic)):
            return value.dtype.name
        return np.dtype(value).name
    except TypeError:
        raise ValueError(f"unknown data type: {value}") from None


class DataType(Enum, metaclass=_OfAnything):
    """Element type. `DataType(v)` takes a numpy dtype, anything that names one, or an array.

    Raises: ValueError for a type no tensor has.
    """

    FLOAT16 = "float16"
    FLOAT32 = "float32"
    BFLOAT16 = _BFLOAT16
    INT8 = "int8"
    INT16 = "int16"
    INT32 = "int32"
    INT64 = "int64"
    UINT8 = "uint8"
    BOOL = "bool"

    @classmethod
    def _missing_(cls, value: object) -> None:
        raise ValueError(f"unknown data type: {value}")

    @property
    def numpy(self) -> np.dtype[Any]:
        """Raises: ValueError when numpy has no such type."""
        if self is DataType.BFLOAT16:
            raise ValueError("numpy has no BFLOAT16")
        return np.dtype(str(self.value))

    @property
    def numpy_dtype(self) -> type[np.generic]:
        warnings.warn(
            "'DataType.numpy_dtype' is deprecated; use 'DataType.numpy'.",
            FutureWarning,
            stacklevel=2,
        )
        return self.numpy.type

    def __repr__(self) -> str:
        return self.name

    __str__ = __repr__


_IMAGE = "NCHW"


@dataclass(frozen=True, slots=True, repr=False)
class TensorDesc:
    """An input or output of a model: an array of `shape`, in C order; a dimension is counted from 0.

    `axes` is as of a TensorSpec. `extent` is how much of each dimension holds data, in an NPU layout less
    than `shape`; empty: all of it.
    """

    name: str | None
    shape: tuple[int, ...]
    dtype: DataType
    axes: str = ""
    extent: tuple[int, ...] = ()

    @classmethod
    def of(cls, spec: TensorSpec) -> "TensorDesc":
        dtype = DataType(spec.dtype.value)
        return cls(spec.name or None, spec.shape, dtype, spec.axes, spec.extent)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def dim(self, index: int) -> int:
        """Raises: IndexError."""
        return self.shape[self._checked(index)]

    def axis(self, index: int) -> Axis:
        """Raises: IndexError."""
        index = self._checked(index)
        axes = self.axes or (_IMAGE if self.ndim == len(_IMAGE) else "?" * self.ndim)
        return Axis(axes[index])

    def stride(self, index: int) -> int:
        """In elements, not bytes. Raises: IndexError."""
        return math.prod(self.shape[self._checked(index) + 1 :])

    @property
    def format(self) -> str:
        return "".join(self.axis(index).value for index in range(self.ndim))

    @property
    def length(self) -> int:
        """Number of elements that hold data."""
        return math.prod(self.extent or self.shape)

    @property
    def size(self) -> int:
        """Bytes, those of padding included."""
        itemsize = 2 if self.dtype is DataType.BFLOAT16 else self.dtype.numpy.itemsize
        return math.prod(self.shape) * itemsize

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        return self.dtype.numpy

    def _checked(self, index: int) -> int:
        if not 0 <= index < self.ndim:
            raise IndexError(f"dimension {index} of a tensor with {self.ndim}")
        return index

    def __repr__(self) -> str:
        name = "" if self.name is None else f'name="{self.name}", '
        return (
            f"TensorDesc({name}shape={self.shape}, dtype={self.dtype}, format={self.format}, "
            f"size={self.size}, len={self.length})"
        )


class Model:
    """Inputs and outputs of a loaded model, in program order."""

    __slots__ = ("_inputs", "_outputs")

    def __init__(self, inputs: Sequence[TensorDesc], outputs: Sequence[TensorDesc]) -> None:
        self._inputs = tuple(inputs)
        self._outputs = tuple(outputs)

    @property
    def input_num(self) -> int:
        return len(self._inputs)

    @property
    def output_num(self) -> int:
        return len(self._outputs)

    def inputs(self) -> list[TensorDesc]:
        return list(self._inputs)

    def outputs(self) -> list[TensorDesc]:
        return list(self._outputs)

    def input(self, index: int) -> TensorDesc:
        """Raises: IndexError."""
        return _pick(self._inputs, index, "input")

    def output(self, index: int) -> TensorDesc:
        """Raises: IndexError."""
        return _pick(self._outputs, index, "output")

    def summary(self) -> str:
        """Four lines without a final newline."""
        return (
            f"Inputs:\n{dict(enumerate(self._inputs))}\nOutputs:\n{dict(enumerate(self._outputs))}"
        )

    def print_summary(self) -> None:
        print(self.summary())  # noqa: T201 - what this method is for


def _pick(tensors: tuple[TensorDesc, ...], index: int, kind: str) -> TensorDesc:
    if not 0 <= index < len(tensors):
        raise IndexError(f"list index out of {kind} tensors")
    return tensors[index]
