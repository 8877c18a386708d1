"""What callers pass to `run`, checked against the model before anything is sent.

Nothing is cast: a wrong dtype is a TypeError, a wrong shape, count or name a ValueError; an unknown name is
TensorNameNotFound, which is one. Any memory layout will do, since inputs are copied into the arena element
by element when they are not dense.
Source: runtime reference 2 and 7.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from furiosa.common.tensor import TensorSpec
from furiosa.runtime._core.errors import TensorNameNotFound

Array: TypeAlias = npt.NDArray[Any]


class SupportsArray(Protocol):
    def __array__(self) -> Array: ...


Tensor: TypeAlias = Array | np.generic | float | SupportsArray  # plain numbers: for 0-dim inputs
TensorArray: TypeAlias = Iterable[Tensor] | Tensor  # one Tensor: for models with one input

_INTERFACES = ("__array__", "__array_interface__", "__array_struct__")
# Python type to the dtype kinds it may become
NUMBER_KINDS = {bool: "b", int: "iuf", float: "f"}


class Inputs:
    """The inputs of one model."""

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        self._specs = tuple(specs)
        self._names = tuple(spec.name for spec in specs)
        self._expected = tuple((i, spec.shape, spec.dtype.numpy) for i, spec in enumerate(specs))

    def ordered(self, given: TensorArray) -> list[Array]:
        """One array for each input, in program order; those that fit are passed on as they are.

        Raises: TypeError, ValueError.
        """
        tensors: Sequence[Tensor]
        if type(given) is np.ndarray:
            tensors = (given,)
        elif type(given) is list or type(given) is tuple:
            tensors = given
        else:
            tensors = self._listed(given)
        if len(tensors) != len(self._expected):
            raise ValueError(
                f"{len(self._expected)} tensors are expected, but {len(tensors)} tensors are given"
            )
        return [
            tensor
            if type(tensor) is np.ndarray
            and tensor.shape == shape
            and (tensor.dtype is dtype or tensor.dtype == dtype)
            else self._admit(index, tensor)
            for tensor, (index, shape, dtype) in zip(tensors, self._expected, strict=True)
        ]

    def named(self, given: Mapping[str, Tensor]) -> list[Array]:
        """The same for a mapping that has every input and nothing else. Raises: TypeError, ValueError."""
        if not isinstance(given, Mapping):
            raise TypeError(
                f"inputs: expected a dict of tensor name to tensor, found {_kind(given)}"
            )
        for name in given:
            if name not in self._names:
                raise _unknown("input", name, self._names)
        missing = [name for name in self._names if name not in given]
        if missing:
            raise ValueError(f"no tensor is given for input {_listing(missing)}")
        return self.ordered([given[name] for name in self._names])

    def _listed(self, given: TensorArray) -> Sequence[Tensor]:
        if is_tensor(given):
            return [cast("Tensor", given)]
        if isinstance(given, Mapping):
            raise TypeError(
                "inputs: expected tensors in program order, found a mapping; see run_with"
            )
        if isinstance(given, (str, bytes, bytearray, memoryview)) or not isinstance(
            given, Iterable
        ):
            raise TypeError(
                f"inputs: expected a tensor or an iterable of them, found {_kind(given)}"
            )
        return list(islice(given, len(self._expected) + 1))  # an endless one is too long as well

    def _admit(self, index: int, tensor: Tensor) -> Array:
        _, shape, dtype = self._expected[index]
        label = f"input {index} ({self._names[index]!r})"
        if type(tensor) in NUMBER_KINDS:
            if shape == () and dtype.kind in NUMBER_KINDS[type(tensor)]:
                try:
                    return np.asarray(tensor, dtype)
                except OverflowError:
                    raise ValueError(f"{label}: {tensor} does not fit into {dtype}") from None
        elif not is_tensor(tensor):
            raise TypeError(f"{label}: expected an array, found {_kind(tensor)}")
        array = np.asarray(tensor)
        text = f"{label}: expected {shape} ({dtype}) but got {array.shape} ({array.dtype})"
        if array.dtype != dtype:
            raise TypeError(text)
        if array.shape != shape:
            raise ValueError(text)
        return array


class Outputs:
    """The outputs of one model."""

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        self._names = tuple(spec.name for spec in specs)
        self.all = tuple(range(len(specs)))

    def chosen(self, names: Sequence[str]) -> tuple[int, ...]:
        """Indices of the named outputs, in the asked order. Raises: TypeError, ValueError."""
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise TypeError(f"output_names: expected a list of str, found {_kind(names)}")
        wanted = list(names)
        if not wanted:
            raise ValueError("output_names: at least one output must be named")
        for name in wanted:
            if not isinstance(name, str):
                raise TypeError(f"output_names: expected a list of str, found {_kind(name)} in it")
            if name not in self._names:
                raise _unknown("output", name, self._names)
        return tuple(self._names.index(name) for name in wanted)


def _unknown(kind: str, name: object, names: Iterable[str]) -> TensorNameNotFound:
    return TensorNameNotFound(f"unknown {kind} {name!r}; the model has {_listing(names)}")


def is_tensor(value: object) -> bool:
    return type(value) in NUMBER_KINDS or any(hasattr(value, name) for name in _INTERFACES)


def _kind(value: object) -> str:
    return "None" if value is None else type(value).__name__


def _listing(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
