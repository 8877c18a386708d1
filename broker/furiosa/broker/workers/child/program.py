"""A loaded program as the worker sees it, whatever engine runs it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from furiosa.common.tensor import TensorSpec
from furiosa.queuepair import tensor_offsets
from furiosa.queuepair.layout import ALIGNMENT

Array = npt.NDArray[Any]


class BadPlacement(Exception):
    """A run's tensors do not lie where tensors may lie."""


class Timing(Protocol):
    @property
    def task_ns(self) -> int: ...
    @property
    def tensor_ns(self) -> int: ...


class Bound(Protocol):
    """A program tied to certain memory; each `execute` reads and writes it."""

    def execute(self) -> Timing: ...


class Engine(Protocol):
    def bind(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> Bound: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Block:
    """Tensors that lie one after the other in the arena, as `queuepair.tensor_offsets` places them."""

    specs: tuple[TensorSpec, ...]
    offsets: tuple[int, ...] = field(init=False)
    nbytes: int = field(init=False)

    def __post_init__(self) -> None:
        offsets, nbytes = tensor_offsets([spec.nbytes for spec in self.specs])
        object.__setattr__(self, "offsets", offsets)
        object.__setattr__(self, "nbytes", nbytes)

    def views(self, arena: npt.NDArray[np.uint8], start: int) -> list[Array]:
        """Raises: BadPlacement when the block is misaligned or reaches outside the arena."""
        if start % ALIGNMENT or start + self.nbytes > len(arena):
            raise BadPlacement(
                f"{self.nbytes} bytes at {start} of an arena of {len(arena)} bytes: "
                f"misaligned or outside"
            )
        return [
            arena[start + offset : start + offset + spec.nbytes]
            .view(spec.dtype.numpy)
            .reshape(spec.shape)
            for spec, offset in zip(self.specs, self.offsets, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class LoadedProgram:
    target: str
    inputs: Block
    outputs: Block
    engine: Engine
    memory_bytes: int  # of the device, as admitted

    @classmethod
    def of(
        cls,
        target: str,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        engine: Engine,
        memory_bytes: int,
    ) -> "LoadedProgram":
        return cls(target, Block(inputs), Block(outputs), engine, memory_bytes)

    def bind(self, arena: npt.NDArray[np.uint8], input_offset: int, output_offset: int) -> Bound:
        """Tie the program to two blocks of the arena. Raises: BadPlacement."""
        inputs = self.inputs.views(arena, input_offset)
        outputs = self.outputs.views(arena, output_offset)
        if (
            input_offset < output_offset + self.outputs.nbytes
            and output_offset < input_offset + self.inputs.nbytes
        ):
            raise BadPlacement(f"inputs at {input_offset} overlap outputs at {output_offset}")
        return self.engine.bind(inputs, outputs)


# Asked with the device memory a program needs before anything large is made; raises LimitExceeded.
Admit = Callable[[int], None]
Loader = Callable[[bytes, int, bool, Admit], LoadedProgram]  # ENF bytes, PEs, whether traced
