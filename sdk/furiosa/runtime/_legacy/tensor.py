"""Tensors of the legacy API: arrays with a few more methods. Source: runtime reference 8."""

from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from furiosa.runtime._core.describe import DataType, TensorDesc
from furiosa.runtime._core.errors import UnsupportedDataType
from furiosa.runtime._deprecated import warn_of_use
from furiosa.runtime._legacy.translate import mismatch

Array = npt.NDArray[Any]


class _Equal(np.ndarray[Any, np.dtype[Any]]):
    """Element by element, as of arrays. As a condition: whether the tensors are equal, all in all."""

    of_one_kind = True

    def __bool__(self) -> bool:
        return self.of_one_kind and bool(np.all(np.asarray(self)))


class _Unequal(np.ndarray[Any, np.dtype[Any]]):
    """The contrary."""

    of_one_kind = True

    def __bool__(self) -> bool:
        return not self.of_one_kind or bool(np.any(np.asarray(self)))


class Tensor(np.ndarray[Any, np.dtype[Any]]):
    """An array, but that `if one == other` asks whether type, shape and content are the same."""

    @property
    def numpy_dtype(self) -> type[np.generic]:
        warn_of_use("'Tensor.numpy_dtype'", "'Tensor.dtype'")
        return self.dtype.type

    def copy_from(self, data: npt.ArrayLike) -> None:
        """Shape and dtype: its own. Raises: InvalidInput."""
        array = np.asarray(data)
        wrong = mismatch(self.shape, self.dtype, array)
        if wrong is not None:
            raise wrong
        np.copyto(self, array)

    def view(self, *args: Any, **options: Any) -> Any:
        """Without arguments an array that shares the memory; else as of any array."""
        return super().view(*args, **options) if args or options else super().view(np.ndarray)

    def numpy(self) -> Array:
        """A contiguous copy."""
        return np.array(self, order="C", subok=False)

    def __eq__(self, other: object) -> Any:
        return self._compared(other, np.equal, _Equal)

    def __ne__(self, other: object) -> Any:
        return self._compared(other, np.not_equal, _Unequal)

    def _compared(self, other: object, compare: np.ufunc, kind: type[_Equal | _Unequal]) -> Any:
        right = np.asarray(other)
        try:
            compared = np.asarray(compare(np.asarray(self), right)).view(kind)
        except (TypeError, ValueError):  # types or shapes of which neither fits the other
            return compare(0, 1)
        if isinstance(other, np.ndarray):
            compared.of_one_kind = (self.shape, self.dtype) == (right.shape, right.dtype)
        return compared

    __hash__ = None  # as of any array


class TensorArray(list[Tensor]):
    """Tensors in the order of a model. `array[i] = data` copies the data into tensor `i`."""

    @classmethod
    def of(cls, arrays: Sequence[Array]) -> "TensorArray":
        """Shares their memory."""
        return cls(array.view(Tensor) for array in arrays)

    def is_empty(self) -> bool:
        """Whether it has no tensor."""
        return not self

    def view(self) -> list[Array]:
        """Arrays that share the memory."""
        return [tensor.view() for tensor in self]

    def numpy(self) -> list[Array]:
        """Copies."""
        return [tensor.numpy() for tensor in self]

    def __setitem__(self, index: Any, data: Any) -> None:
        """Raises: IndexError; InvalidInput for another shape or dtype."""
        if isinstance(index, SupportsIndex):
            self[index].copy_from(data)
            return
        for tensor, one in zip(self[index], data, strict=True):
            tensor.copy_from(one)


def allocated(descs: Sequence[TensorDesc]) -> TensorArray:
    return TensorArray.of([zeros(desc) for desc in descs])


def numpy_dtype(value: object) -> np.dtype[Any]:
    """That of a TensorDesc, a DataType, an array, or what numpy takes for one.

    Raises: UnsupportedDataType.
    """
    try:
        if isinstance(value, TensorDesc):
            return value.numpy_dtype
        return DataType(value).numpy
    except ValueError:
        raise UnsupportedDataType(f"{UnsupportedDataType.message}: {value}") from None


def zeros(desc: TensorDesc) -> Array:
    return np.zeros(desc.shape, desc.numpy_dtype)


def rand(desc: TensorDesc) -> Array:
    """Uniform: floats from 0 up to 1, integers over all their values."""
    drawn = np.random.default_rng()
    dtype = desc.numpy_dtype
    if dtype.kind == "f":
        return drawn.random(desc.shape).astype(dtype)
    if dtype.kind == "b":
        return drawn.integers(0, 2, desc.shape).astype(dtype)
    limits = np.iinfo(dtype)
    return drawn.integers(limits.min, limits.max, desc.shape, dtype, endpoint=True)
