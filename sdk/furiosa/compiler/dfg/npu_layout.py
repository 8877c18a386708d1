"""The layout in which the NPU keeps an image, for callers that give or take it.

An image [N, C, H, W] of 8-bit numbers has six axes there:

    0  batch    the inferences of one run
    1  image    N of one inference
    2  PE       each has an equal share of the channels; 1 where they cannot be shared equally
    3  channel  of the PE's share
    4  row      H
    5  column   W, padded to a multiple of 32

Without the padding it is the image, element by element in the same order.
Source: compiler reference 6 (six dimensions, padded) and 8 (width last, a multiple of 32).
"""

from dataclasses import dataclass
from typing import Final, Self

AXES: Final = "N??CHW"
_WIDTH: Final = 32


@dataclass(frozen=True, slots=True)
class NpuLayout:
    """`extent` is the shape without the padding, `padded` the image with it."""

    extent: tuple[int, ...]

    @classmethod
    def of(cls, image: tuple[int, ...], batch: int, pes: int) -> Self:
        """`image` is [batch * N, C, H, W]."""
        n, c, h, w = image
        shared = pes if c % pes == 0 else 1
        return cls((batch, n // batch, shared, c // shared, h, w))

    @property
    def shape(self) -> tuple[int, ...]:
        return *self.extent[:-1], -(-self.extent[-1] // _WIDTH) * _WIDTH

    @property
    def padded(self) -> tuple[int, ...]:
        batch, n, shared, c, h, w = self.shape
        return batch * n, shared * c, h, w

    @property
    def padding(self) -> int:
        """Columns of it."""
        return self.shape[-1] - self.extent[-1]
