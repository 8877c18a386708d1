"""Random data for a model. Source: command-line reference 4.3."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from furiosa.quantizer.names import get_pure_input_names

COUNT: Final = 8

Sample = list[npt.NDArray[Any]]  # an array for each input


def check_shapes(model: ModelProto) -> None:
    """Raises: ValueError naming the first input that has no size in another dimension than the first."""
    for value in _inputs(model):
        shape = value.type.tensor_type.shape
        if not value.type.tensor_type.HasField("shape") or any(
            dim.dim_value <= 0 for dim in shape.dim[1:]
        ):
            raise ValueError(f"The static shape of tensor '{value.name}' must be provided")


def samples(model: ModelProto) -> Iterator[Sample]:
    """COUNT of them, the same each time: floats are standard normal, integers uniform over their type.

    All shapes are static. Raises: NotImplementedError naming an input of another type.
    """
    random = np.random.default_rng(0)
    inputs = _inputs(model)
    for _ in range(COUNT):
        yield [_array(value, random) for value in inputs]


def _inputs(model: ModelProto) -> list[ValueInfoProto]:
    """Without those that are initialisers."""
    names = {*get_pure_input_names(model)}
    return [value for value in model.graph.input if value.name in names]


def _array(value: ValueInfoProto, random: np.random.Generator) -> npt.NDArray[Any]:
    kind = value.type.tensor_type
    shape = [dim.dim_value for dim in kind.shape.dim]
    dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
    if kind.elem_type in (TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE):
        return random.standard_normal(shape).astype(dtype)
    if dtype.kind not in "iu" or kind.elem_type not in _INTEGERS:
        name = TensorProto.DataType.Name(kind.elem_type)
        raise NotImplementedError(
            f"random data of type {name} is not implemented: tensor '{value.name}'"
        )
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, shape, dtype, endpoint=True)


_INTEGERS: Final = frozenset(
    {
        *(TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64),
        *(TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64),
    }
)
