"""Arrays from outside against the tensors a program declares."""

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from furiosa.common.tensor import TensorSpec


def check(
    kind: str, arrays: Sequence[npt.NDArray[Any]], specs: Sequence[TensorSpec], *, bound: bool
) -> None:
    """Raises: ValueError unless the arrays are those tensors; `bound` ones must be C-contiguous."""
    if len(arrays) != len(specs):
        raise ValueError(f"{len(arrays)} {kind}s given, the program has {len(specs)}")
    for array, spec in zip(arrays, specs, strict=True):
        if array.dtype != spec.dtype.numpy or array.shape != spec.shape:
            raise ValueError(
                f"{kind} {spec.name!r} is {array.dtype} {list(array.shape)}, "
                f"the program has {spec.dtype.value} {list(spec.shape)}"
            )
        if bound and not (array.flags.c_contiguous and array.flags.aligned):
            raise ValueError(f"{kind} {spec.name!r} is not one aligned block in C order")
