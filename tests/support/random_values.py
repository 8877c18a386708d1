"""A program in the making, of random values: what the makers of random instructions share."""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from furiosa.common.tensor import DType
from furiosa.enf import TARGETS, Opcode, Space
from furiosa.enf.instruction_rules import FIELDS
from furiosa.enf.table_rules import RANGES
from support.programs import Draft

ACTIVATIONS: Final = (DType.INT8, DType.UINT8)
LARGEST: Final = 30_000  # elements of a value


@dataclass(frozen=True)
class Value:
    """A buffer that has been written, and its zero point if it is an activation."""

    buffer: int
    dtype: DType
    shape: tuple[int, ...]
    zero: int = 0


class Random:
    """Makers take a random value of `values` and add one or more; `read` are the buffers that were taken."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.draft = Draft(self.pick(1, 2, 3), self.pick(*TARGETS))
        self.values: list[Value] = []
        self.read: set[int] = set()

    def pick(self, *choices: Any) -> Any:
        return choices[self.rng.integers(len(choices))]

    def upto(self, high: int) -> int:
        return int(self.rng.integers(1, high + 1))

    def stored(self, dtype: DType, shape: tuple[int, ...]) -> Any:
        low, high = RANGES[dtype]
        return self.rng.integers(low, high + 1, shape)

    # values to read

    def used(self, value: Value) -> Value:
        self.read.add(value.buffer)
        return value

    def image(self) -> Value:
        """An activation [N, C, H, W]; there is always one."""
        return self._one([v for v in self.values if v.dtype in ACTIVATIONS and len(v.shape) == 4])

    def activation(self) -> Value:
        return self._one([v for v in self.values if v.dtype in ACTIVATIONS])

    def anything(self) -> Value:
        return self._one(self.values)

    def _one(self, values: list[Value]) -> Value:
        return values[self.rng.integers(len(values))]

    # values to write

    def result(self, shape: tuple[int, ...], dtype: DType | None = None) -> Value:
        """Of a random activation type, unless told which."""
        dtype = dtype or self.pick(*ACTIVATIONS)
        buffer = self.draft.buffer(dtype, shape, self.pick(*Space))
        zero = 0
        if dtype in ACTIVATIONS:
            low, high = RANGES[dtype]
            any_zero = int(self.rng.integers(low, high + 1))
            zero = self.pick(low, high, (low + high + 1) // 2, any_zero)
        value = Value(buffer, dtype, shape, zero)
        self.values.append(value)
        return value

    def emit(self, opcode: Opcode, out: Value, *sources: Value, **fields: Any) -> None:
        """With zero points and a random clamp where the opcode takes them, unless given."""
        sources = tuple(self.used(source) for source in sources)
        points = {f"zero{k}": source.zero for k, source in enumerate(sources)}
        usual = {**points, "zero_out": out.zero, **self._clamp(out)}
        usual = {field: value for field, value in usual.items() if field in FIELDS[opcode]}
        operands = {f"source{k}": source.buffer for k, source in enumerate(sources)}
        pes = self.upto((1 << TARGETS[self.draft.target]) - 1)
        self.draft.emit(opcode, out.buffer, pes=pes, **operands, **{**usual, **fields})

    def _clamp(self, value: Value) -> dict[str, int]:
        low, high = RANGES.get(value.dtype, (0, 0))
        a, b = sorted(int(v) for v in self.rng.integers(low, high + 1, 2))
        low, high = self.pick((low, high), (low, high), (value.zero, high), (a, b))
        return {"low": low, "high": high}

    def floats(self, *values: float) -> int:
        return self.draft.constant(values, DType.FLOAT32)

    def ints(self, values: Any) -> int:
        return self.draft.constant(values, DType.INT32)


def fits(shape: tuple[int, ...]) -> bool:
    return math.prod(shape) <= LARGEST
