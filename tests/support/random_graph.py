"""A quantised ONNX model in the making, of random values: what the makers of random operators share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx

from support.qdq_nets import Qdq

LARGEST: Final = 4000  # elements of a value
DEEPEST: Final = 256  # products of a sum: of 255 x 255 as many are below 2^24, which float32 holds
OPSETS: Final = (13, 14, 17, 18, 20, 21)
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Stored:
    """A tensor of stored integers."""

    name: str
    shape: Shape
    scale: float
    zero: int
    dtype: Any

    @property
    def reach(self) -> float:
        """The largest real number it can hold, more or less."""
        return self.scale * 128


class RandomGraph:
    """Makers take random values of `values` and store one or more; `read` names what was taken.

    `batched`: dimension 0 is 1 and of a batch everywhere, which nothing mixes. `islands` are outputs in
    float32 that are no stored number's.
    """

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.net = Qdq(opset=self.pick(*OPSETS), seed=seed)
        self.exact = self.chance(0.5)
        self.batched = self.chance(0.6)
        self.values: list[Stored] = []
        self.inputs: set[str] = set()
        self.read: set[str] = set()
        self.islands: list[str] = []
        self._reals: dict[str, str] = {}

    # numbers

    def pick(self, *choices: Any) -> Any:
        return choices[self.rng.integers(len(choices))]

    def upto(self, high: int) -> int:
        return int(self.rng.integers(1, high + 1))

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def first(self) -> int:
        """A dimension 0."""
        return 1 if self.batched else int(self.pick(1, 1, 2, 3))

    def scale(self, about: float) -> float:
        """Not far from `about`."""
        if self.exact:
            return float(2.0 ** round(math.log2(about)))
        return float(np.float32(about * self.rng.uniform(0.7, 1.4)))

    def point(self, dtype: Any) -> int:
        limits = np.iinfo(dtype)
        middle = (int(limits.min) + int(limits.max) + 1) // 2
        anything = int(self.rng.integers(limits.min, limits.max + 1))
        return int(self.pick(middle, middle, int(limits.min), int(limits.max), anything))

    def factors(self, *shape: int) -> np.ndarray[Any, Any]:
        """Real numbers of either sign and no zero; powers of 2 if the graph is exact."""
        signs = self.rng.choice([-1, 1], shape)
        sizes = self.rng.uniform(-2, 1, shape)
        return np.asarray(signs * 2.0 ** (np.rint(sizes) if self.exact else sizes), np.float32)

    # values to read

    def one(self, *ranks: int) -> Stored:
        """Of a rank, if there is one of that; there is always an image [N, C, H, W]."""
        found = [v for v in self.values if not ranks or len(v.shape) in ranks]
        return found[self.rng.integers(len(found))]

    def real(self, value: Stored) -> str:
        """Dequantised, by a node of its own or one that others read too."""
        self.read.add(value.name)
        if value.name not in self._reals or self.chance(0.5):
            self._reals[value.name] = self.net._linear(
                "DequantizeLinear", value.name, value.scale, value.zero, value.dtype
            )
        return self._reals[value.name]

    # values to write

    def input(self, *shape: int, like: Stored | None = None) -> Stored:
        """An input of the graph; with the parameters of another value, or some."""
        dtype = like.dtype if like else self.pick(np.int8, np.uint8)
        scale = like.scale if like else self.scale(self.pick(0.01, 0.05, 0.3))
        zero = like.zero if like else self.point(dtype)
        real = self.net.input(*shape, scale=scale, zero=zero, dtype=dtype)
        value = Stored(self.net.inputs[-1].name, shape, scale, zero, dtype)
        self.inputs.add(value.name)
        self._reals[value.name] = real
        self.values.append(value)
        return value

    def store(self, real: str, shape: Shape, reach: float, *, like: Stored | None = None) -> None:
        """Quantise what holds numbers up to `reach`, of which some are cut off; perhaps behind Relu or Clip.

        Twice if chance will have it, as two readers may want.
        """
        for _ in range(1 if self.chance(0.93) else 2):
            clamped = self.activated(real, reach) if self.chance(0.3) else real
            dtype = like.dtype if like else self.pick(np.int8, np.uint8)
            scale = like.scale if like else self.scale(max(reach, 1e-4) / self.pick(30, 100, 128))
            zero = like.zero if like else self.point(dtype)
            name = self.net.quantized(clamped, scale, zero, dtype)
            self.values.append(Stored(name, tuple(shape), scale, zero, dtype))

    def activated(self, real: str, reach: float) -> str:
        """Behind Relu, Clip or both."""
        if self.chance(0.6):
            real = self.net.node("Relu", real)
            if self.chance(0.7):
                return real
        low, high = sorted(self.rng.uniform(-reach, reach, 2).astype(np.float32))
        bounds = self.pick((low, high), (low,), ("", high))
        given = [b if isinstance(b, str) else self.net.constant(b) for b in bounds]
        return self.net.node("Clip", real, *given)

    def ints(self, numbers: Sequence[int]) -> str:
        return self.net.constant(np.array(numbers, np.int64))

    def floats(self, numbers: Any) -> str:
        return self.net.constant(np.asarray(numbers, np.float32))

    def model(self, *outputs: str) -> onnx.ModelProto:
        return self.net.model(*dict.fromkeys(outputs))


def fits(shape: Shape) -> bool:
    return math.prod(shape) <= LARGEST
