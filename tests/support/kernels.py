"""Kernels of the reference interpreter, called on arrays."""

from typing import Any

import numpy as np
import numpy.typing as npt

from furiosa.enf import Instruction, Opcode
from furiosa.vnpu.kernels import KERNELS, Result

I8, U8, F32 = np.dtype(np.int8), np.dtype(np.uint8), np.dtype(np.float32)
Array = npt.NDArray[Any]


def run(
    opcode: Opcode, dtype: np.dtype[Any], shape: tuple[int, ...], *operands: Array, **fields: Any
) -> Array:
    """The result, of that type and shape; it is clamped to the range of the type, unless told."""
    low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype != F32 else (0, 0)
    fields = {"low": low, "high": high} | fields
    result = KERNELS[opcode](Instruction(opcode, 0, 1, **fields), Result(dtype, shape), *operands)
    assert (result.dtype, result.shape) == (dtype, shape)
    return result


def i8(*values: Any) -> Array:
    return np.array(values, np.int8)


def f32(*values: Any) -> Array:
    return np.array(values, np.float32)


def i32(*values: Any) -> Array:
    return np.array(values, np.int32)
