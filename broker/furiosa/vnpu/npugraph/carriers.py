"""How buffers are carried in graphs: int8 as uint8, 128 higher; images in NHWC between graphs."""

from typing import Final

from furiosa.common.tensor import DType

FLIP: Final = 128  # int8 value + 128 = its bits with the top bit flipped, read as uint8
TO_LAST: Final = (0, 2, 3, 1)
FROM_LAST: Final = (0, 3, 1, 2)


def name(buffer: int) -> str:
    return f"b{buffer}"


def inner_name(buffer: int) -> str:
    """Of a buffer that one graph hands to another as both carry it."""
    return f"c{buffer}"


def carrier(dtype: DType) -> DType:
    """The type that carries a buffer inside the graph."""
    return DType.UINT8 if dtype is DType.INT8 else dtype


def flip(dtype: DType) -> int:
    """What is added to values of this type."""
    return FLIP if dtype is DType.INT8 else 0


def channels_last(shape: tuple[int, ...]) -> tuple[int, ...]:
    """NHWC if it is an image."""
    return tuple(shape[axis] for axis in TO_LAST) if len(shape) == len(TO_LAST) else shape
