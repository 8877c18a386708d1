"""What the kernels share: the result they are to make, and how real values are stored."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from furiosa.enf import Instruction

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Result:
    """Type and shape of the buffer that takes the result."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]


def centred(x: Array, zero: int) -> Array:
    """x - zero as float32, which holds it exactly."""
    return (x.astype(np.int32) - zero).astype(np.float32)


def store(values: Array, i: Instruction, result: Result) -> Array:
    """float32 to the stored type: round half to even, add the zero point, clamp.

    Clamping comes first here, which gives the same and keeps infinities away from the cast; `fmax`
    turns NaN into the lower bound.
    """
    rounded = np.rint(values)
    bounds = np.float32(i.low - i.zero_out), np.float32(i.high - i.zero_out)
    clamped = np.fmin(np.fmax(rounded, bounds[0]), bounds[1])
    return (clamped.astype(np.int32) + i.zero_out).astype(result.dtype)
