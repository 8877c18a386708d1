"""Tensors of the API before SDK 0.10, where arrays do now. Deprecated, as upstream.

Source: runtime reference 8.
"""

from furiosa.runtime._core.describe import Axis, DataType, TensorDesc
from furiosa.runtime._deprecated import warn_of_module
from furiosa.runtime._legacy.tensor import Tensor, TensorArray, numpy_dtype, rand, zeros

__all__ = [
    "Axis",
    "DataType",
    "Tensor",
    "TensorArray",
    "TensorDesc",
    "numpy_dtype",
    "rand",
    "zeros",
]

warn_of_module(__name__)
