"""What callers of the legacy API pass to `run` and `submit`. Source: runtime reference 8."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

import numpy as np

from furiosa.runtime._core.describe import TensorDesc
from furiosa.runtime._core.errors import TensorNameNotFound, UnsupportedTensorType
from furiosa.runtime._core.validate import NUMBER_KINDS, Tensor, is_tensor
from furiosa.runtime._core.validate import TensorArray as Tensors
from furiosa.runtime._legacy.tensor import TensorArray
from furiosa.runtime._legacy.translate import WrongType, WrongValue, mismatch


def ordered(given: Tensors, descs: Sequence[TensorDesc]) -> list[Tensor]:
    """One for each input: copies, but what is in a TensorArray is passed on.

    Raises: InvalidInput, UnsupportedTensorType.
    """
    if is_tensor(given):
        tensors: Sequence[object] = (given,)
    elif isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping):
        tensors = list(islice(given, len(descs) + 1))  # an endless one is too long as well
    else:
        raise UnsupportedTensorType
    if len(tensors) != len(descs):
        raise WrongValue(f"{len(descs)} tensors are expected, but {len(tensors)} tensors are given")
    is_kept = isinstance(given, TensorArray)
    return [
        _admitted(tensor, desc, is_kept=is_kept)
        for tensor, desc in zip(tensors, descs, strict=True)
    ]


def named(given: Mapping[str, Tensor], descs: Sequence[TensorDesc]) -> dict[str, Tensor]:
    """Copies. Raises: InvalidInput, TensorNameNotFound, UnsupportedTensorType."""
    if not isinstance(given, Mapping):
        raise WrongType(f"inputs: expected a dict of tensor name to tensor, found {given!r:.80}")
    known = {desc.name: desc for desc in descs}
    if not given.keys() <= known.keys():
        raise TensorNameNotFound
    return {name: _admitted(tensor, known[name], is_kept=False) for name, tensor in given.items()}


def _admitted(tensor: object, desc: TensorDesc, *, is_kept: bool) -> Tensor:
    if not is_tensor(tensor):
        raise UnsupportedTensorType
    if type(tensor) in NUMBER_KINDS:
        return tensor  # type: ignore[return-value]  # a number
    array = np.asarray(tensor)
    wrong = mismatch(desc.shape, desc.numpy_dtype, array)
    if wrong is not None:
        raise wrong
    return array if is_kept else array.copy()
