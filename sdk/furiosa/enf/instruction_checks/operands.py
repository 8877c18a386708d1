"""What the checks of several instructions share. Each yields a message for each violation."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from furiosa.common.tensor import DType
from furiosa.enf.isa import Instruction
from furiosa.enf.program import Buffer, Program
from furiosa.enf.table_rules import RANGES

Check = Callable[[Instruction, Program], Iterator[str]]


def is_activation(what: str, *buffers: Buffer) -> Iterator[str]:
    for buffer in buffers:
        if buffer.dtype not in RANGES:
            yield f"{what} is {buffer.dtype.value}, not int8 or uint8"


def same_dtype(source: Buffer, out: Buffer) -> Iterator[str]:
    if source.dtype is not out.dtype:
        yield f"the type changes from {source.dtype.value} to {out.dtype.value}"


def same_rank(source: Buffer, out: Buffer) -> Iterator[str]:
    if len(source.shape) != len(out.shape):
        yield f"rank {len(source.shape)} becomes {len(out.shape)}"


def same_shape(source: Buffer, out: Buffer) -> Iterator[str]:
    if source.shape != out.shape:
        yield f"the shape changes from {list(source.shape)} to {list(out.shape)}"


def axis_exists(i: Instruction, out: Buffer) -> Iterator[str]:
    if not 0 <= i.axis < len(out.shape):
        yield f"axis is {i.axis}, the rank {len(out.shape)}"


def constant(
    what: str, array: npt.NDArray[Any], dtype: DType, shape: tuple[int, ...]
) -> Iterator[str]:
    if array.dtype.name != dtype.value or array.shape != shape:
        found = f"{array.dtype.name} {list(array.shape)}"
        yield f"{what} is {found}, expected {dtype.value} {list(shape)}"


def parameters(
    i: Instruction, program: Program, shape: tuple[int, ...]
) -> tuple[list[str], npt.NDArray[Any]]:
    """What is wrong with the type and shape of a small constant, and its numbers, as int64."""
    array = program.constants[i.parameters]
    found = list(constant("parameters", array, DType.INT32, shape))
    return found, array.astype(np.int64) if not found else np.empty(0, np.int64)
